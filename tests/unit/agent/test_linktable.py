"""The table finds whose, ports of what and standing on what a link is, whenever it is asked."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from viaduct_agent.links.model import Link
from viaduct_agent.links.table import LinkTable

names = st.sampled_from("abcd")
maybe = st.none() | names
links = st.builds(
    Link,
    names,
    owner=st.none() | st.builds(UUID, int=st.integers(1, 2)),
    generation=st.integers(1, 3),
    master=maybe,
    parent=maybe,
)


@given(st.lists(links, max_size=6), st.lists(links | names, max_size=8), st.booleans())
def test_what_it_knows_follows_every_change(before: list[Link], changes: list[Link | str], asked_early: bool) -> None:
    table, plain = LinkTable(before), {link.name: link for link in before}
    if asked_early:
        table.ports_of("a")
        table.standing_on("a")
    for change in changes:
        if isinstance(change, Link):
            table.put(change)
            plain[change.name] = change
        elif change in plain:
            table.remove(change)
            del plain[change]
    everything = sorted(plain.values(), key=lambda link: link.name)
    assert dict(table) == dict(table.items()) == plain
    for name in "abcd":
        assert table.get(name) == plain.get(name)
        assert table.ports_of(name) == [link for link in everything if link.master == name]
        assert table.standing_on(name) == [link for link in everything if link.parent == name]
    owners = {link.owner for link in everything if link.owner is not None}
    assert table.names_by_owner().keys() == table.owners().keys() == owners
    for owner in owners:
        owned = [link for link in everything if link.owner == owner]
        assert table.owned_by(owner) == owned
        assert sorted(table.names_owned_by(owner)) == [link.name for link in owned]
        assert table.owners()[owner] == max(link.generation or 0 for link in owned)
