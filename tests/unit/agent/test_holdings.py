"""Holdings and fences."""

from uuid import uuid4

from viaduct_agent import holdings as module
from viaduct_agent.holdings import Holdings
from viaduct_agent.links.marks import format_mark, format_service_mark, parse_mark, parse_service_mark
from viaduct_agent.links.model import Link
from viaduct_agent.links.table import LinkTable


def test_fences_of_what_is_not_held_are_forgotten_in_the_end(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """The newest stay; what is held stays whatever its age."""
    monkeypatch.setattr(module, "_TOMBSTONES", 3)
    held, holdings = uuid4(), Holdings()
    holdings.adopt(LinkTable([Link("br0", "bridge", held, 5)]).owners())
    others = [uuid4() for _ in range(10)]
    for other in others:
        holdings.admit(other, 1)
    assert holdings.fence(held) == 5
    assert [holdings.fence(other) for other in others] == [None] * 7 + [1] * 3


def test_adopting_takes_the_newest_of_a_networks_marks() -> None:
    """A kill between two re-marks leaves two generations; an older command must not win."""
    owner, holdings = uuid4(), Holdings()
    holdings.adopt(LinkTable([Link("a", "bridge", owner, 5), Link("b", "vlan", owner, 4), Link("c")]).owners())
    assert [(held.l2_network_uuid, held.generation) for held in holdings.held()] == [(owner, 5)]
    assert not holdings.admit(owner, 4)
    assert holdings.admit(owner, 5)


def test_a_mark_is_read_only_when_it_is_exactly_ours() -> None:
    """Anything near to it is a stranger's alias."""
    owner = uuid4()
    assert parse_mark(format_mark(owner, 12)) == (owner, 12)
    numbers = (f"viaduct:{owner}", f"viaduct:{owner}:-1", f"viaduct:{owner}:01", f"viaduct:{owner}:1:2")
    names = (f"viaduct:{str(owner).upper()}:1", f"Viaduct:{owner}:1", "viaduct:x:1")
    for alias in (None, "", "viaduct", *numbers, *names):
        assert parse_mark(alias) is None, alias


def test_the_marks_of_services_and_of_l2_networks_are_not_each_others() -> None:
    """Else L2 networks would adopt, and sweep, the legs of routers."""
    service = uuid4()
    mark = format_service_mark(service, 3)
    assert parse_service_mark(mark) == (service, 3)
    assert parse_mark(mark) is None
    assert parse_service_mark(format_mark(service, 3)) is None
