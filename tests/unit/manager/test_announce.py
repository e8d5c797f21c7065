"""Commands of any size, in messages that a broker carries."""

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viaduct_common import topology
from viaduct_common.messages.agent import L2Desired, RealizeL2Command, ReleaseL2Command, SyncHostCommand
from viaduct_common.messages.l2 import L2_NOVLAN, L2_VLAN, L2NetworkInventory
from viaduct_manager import announce

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def item(number: int, type_: str = L2_VLAN) -> L2Desired:
    network = L2NetworkInventory.model_validate(
        {
            "uuid": UUID(int=number),
            "name": "n" * 60,
            "zone_uuid": UUID(int=0),
            "physical_interface": "eth1",
            "type": type_,
            "mtu": 1500,
            "bridge_name": f"br_{number}",
            "device_names": [f"br_{number}", f"vl_{number}"],
            "created_at": NOW,
            "updated_at": NOW,
        }
    )
    return L2Desired(generation=number, l2_network=network)


@given(types=st.lists(st.sampled_from([L2_NOVLAN, L2_VLAN, "L2VxlanNetwork"]), max_size=12), seed=st.randoms())
def test_what_others_stand_on_comes_first(types: list[str], seed: object) -> None:
    """Whatever the order they are found in; nothing is lost."""
    items = [item(number, type_) for number, type_ in enumerate(types, 1)]
    shuffled = list(items)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    ordered = announce.parents_first(shuffled)

    ranks = [one.l2_network.type != L2_NOVLAN for one in ordered]
    assert ranks == sorted(ranks)
    assert sorted(one.generation for one in ordered) == sorted(one.generation for one in items)


@pytest.mark.parametrize("count", [0, 1, 100, 5000])
def test_five_thousand_networks_fit_into_one_message(count: int) -> None:
    """Some 3 MB."""
    [only] = announce.split(SyncHostCommand(items=[item(number) for number in range(1, count + 1)]))
    assert len(only.body) < topology.MAX_COMMAND_BYTES


@pytest.mark.parametrize("kind", [RealizeL2Command, ReleaseL2Command, SyncHostCommand])
@given(count=st.integers(1, 40), limit=st.integers(1500, 8000), most=st.integers(1, 40))
def test_large_command_is_split_into_what_comes_to_the_same(
    kind: type[RealizeL2Command] | type[ReleaseL2Command] | type[SyncHostCommand], count: int, limit: int, most: int
) -> None:
    """Every item once, in order; no message above the limit; a sync lists what it does not carry."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topology, "MAX_COMMAND_BYTES", limit)
        patch.setattr(announce, "MOST_ITEMS", most)
        parts = announce.split(kind(items=[item(number) for number in range(1, count + 1)]))

    bodies = [json.loads(part.body) for part in parts]
    assert [one["generation"] for body in bodies for one in body["items"]] == list(range(1, count + 1))
    for part, body in zip(parts, bodies, strict=True):
        assert len(body["items"]) <= most
        assert len(part.body) <= limit or len(body["items"]) == 1
    if kind is SyncHostCommand:
        assert [type(part.command) for part in parts[1:]] == [RealizeL2Command] * (len(parts) - 1)
        elsewhere = [one["l2Network"]["uuid"] for body in bodies[1:] for one in body["items"]]
        assert sorted(bodies[0]["listed"]) == sorted(elsewhere)
    else:
        assert {type(part.command) for part in parts} == {kind}
