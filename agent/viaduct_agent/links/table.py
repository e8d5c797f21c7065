"""The links of a host by name, with what a plan asks of them at hand: whose, ports of what, standing on what.

A plan for one network looks at its own links only, however many the host has.
"""

from collections import defaultdict
from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from typing import TypeVar, overload
from uuid import UUID

from viaduct_agent.links.addresses import NOTHING, Address, Inet, Route
from viaduct_agent.links.entries import Forwarding, Member, Neighbour
from viaduct_agent.links.model import AddEntry, AddLink, DelEntry, DelLink, Link, SetLink, Step, with_values

T = TypeVar("T")


class LinkTable(Mapping[str, Link]):
    """Mutable; `apply` does to it what the kernel does at a step.

    Who is a port of what, and stands on what, is found out when somebody asks: nobody does of a host that is as it
    should be, and thousands of sets for each look are what the garbage collector would be busy with.
    """

    def __init__(self, links: Iterable[Link] = ()) -> None:
        self._links: dict[str, Link] = {link.name: link for link in links}
        self._owned: dict[UUID, tuple[str, ...]] = {}
        self._carriers: dict[str, str] = {}
        self._ports: defaultdict[str, set[str]] | None = None
        self._above: defaultdict[str, set[str]] | None = None
        for link in self._links.values():
            self._enter(link)

    @classmethod
    def of(cls, links: Mapping[str, Link]) -> "LinkTable":
        """The table itself, or one made of a plain mapping."""
        return links if isinstance(links, LinkTable) else cls(links.values())

    def copy(self) -> "LinkTable":
        return LinkTable(self._links.values())

    def __getitem__(self, name: str) -> Link:
        return self._links[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._links)

    def __len__(self) -> int:
        return len(self._links)

    # These three also without a call of Python's for each link.
    @overload
    def get(self, name: str, /) -> Link | None: ...
    @overload
    def get(self, name: str, /, default: Link | T) -> Link | T: ...
    def get(self, name: str, /, default: Link | T | None = None) -> Link | T | None:
        return self._links.get(name, default)

    def values(self) -> ValuesView[Link]:
        return self._links.values()

    def items(self) -> ItemsView[str, Link]:
        return self._links.items()

    def __contains__(self, name: object) -> bool:
        return name in self._links

    def indexes(self) -> dict[str, int]:
        return {name: link.index for name, link in self._links.items()}

    def names_owned_by(self, owner: UUID) -> tuple[str, ...]:
        """In no order."""
        return self._owned.get(owner, ())

    def names_by_owner(self) -> dict[UUID, tuple[str, ...]]:
        """Of all owners, `marks.SHARED` included."""
        return dict(self._owned)

    def owned_by(self, owner: UUID) -> list[Link]:
        return [self._links[name] for name in sorted(self._owned.get(owner, ()))]

    def ports_of(self, name: str) -> list[Link]:
        if self._ports is None:
            self._ports = defaultdict(set)
            for link in self._links.values():
                if link.master is not None:
                    self._ports[link.master].add(link.name)
        return [self._links[port] for port in sorted(self._ports.get(name, ()))]

    def standing_on(self, name: str) -> list[Link]:
        """Links whose parent it is."""
        if self._above is None:
            self._above = defaultdict(set)
            for link in self._links.values():
                if link.parent is not None:
                    self._above[link.parent].add(link.name)
        return [self._links[child] for child in sorted(self._above.get(name, ()))]

    def carrier_of(self, address: str) -> Link | None:
        """The link that has this address (without prefix); of those whose addresses were read."""
        name = self._carriers.get(address)
        return None if name is None else self._links[name]

    def owners(self) -> dict[UUID, int]:
        """The newest generation by owner, `marks.SHARED` included."""
        return {owner: max(self._links[name].generation or 0 for name in names) for owner, names in self._owned.items()}

    def put(self, link: Link) -> None:
        """Add it, or replace the one of this name."""
        self._drop(link.name)
        self._links[link.name] = link
        self._enter(link)
        if link.master is not None and self._ports is not None:
            self._ports[link.master].add(link.name)
        if link.parent is not None and self._above is not None:
            self._above[link.parent].add(link.name)

    def _enter(self, link: Link) -> None:
        if link.owner is not None:
            self._owned[link.owner] = (*self._owned.get(link.owner, ()), link.name)
        for address in link.addresses or ():
            self._carriers[address.partition("/")[0]] = link.name

    def apply(self, step: Step) -> None:
        """Do the step, as the kernel does it: a deleted master sets its ports free, a deleted parent takes what stands
        on it away, and a port that leaves its bridge loses what it had there."""
        match step:
            case AddLink(link):
                self.put(link if link.entries is None else with_values(link, entries=frozenset()))
            case SetLink(before, link):
                self.put(link if before.master == link.master else unplugged(link, link.master))
            case DelLink(link):
                self._delete(link.name)
            case AddEntry(device, Address() | Route() as thing):
                self.put(_with_inet(self._links[device], (self._links[device].inet or NOTHING).plus(thing)))
            case DelEntry(device, Address() | Route() as thing):
                self.put(_with_inet(self._links[device], (self._links[device].inet or NOTHING).minus(thing)))
            case AddEntry(device, Forwarding() | Neighbour() | Member() as entry):
                link = self._links[device]
                self.put(with_values(link, entries=(link.entries or frozenset()) | {entry}))
            case DelEntry(device, Forwarding() | Neighbour() | Member() as entry):
                link = self._links[device]
                self.put(with_values(link, entries=(link.entries or frozenset()) - {entry}))

    def _delete(self, name: str) -> None:
        for child in self.standing_on(name):
            self._delete(child.name)
        for port in self.ports_of(name):
            self.put(unplugged(with_values(port, port=()), None))
        self._drop(name)

    def remove(self, name: str) -> Link:
        """Take out this one link, as if another hand had deleted it before the look. Raises `KeyError`."""
        link = self._links[name]
        self._drop(name)
        return link

    def _drop(self, name: str) -> None:
        link = self._links.pop(name, None)
        if link is None:
            return
        if link.owner is not None:
            left = tuple(other for other in self._owned[link.owner] if other != name)
            if left:
                self._owned[link.owner] = left
            else:
                del self._owned[link.owner]
        if link.master is not None and self._ports is not None:
            self._ports[link.master].discard(name)
        if link.parent is not None and self._above is not None:
            self._above[link.parent].discard(name)
        for address in link.addresses or ():
            if self._carriers.get(address.partition("/")[0]) == name:
                del self._carriers[address.partition("/")[0]]


def _with_inet(link: Link, inet: Inet) -> Link:
    return with_values(link, inet=inet, addresses=inet.texts)


def unplugged(link: Link, master: str | None) -> Link:
    """The link after it changed its master: the bridge's entries for it are gone, those of its own stay."""
    if link.entries is None:
        return with_values(link, master=master)
    kept = frozenset(
        entry for entry in link.entries
        if not (isinstance(entry, Member) or (isinstance(entry, Forwarding) and entry.via is None))
    )  # fmt: skip
    return with_values(link, master=master, entries=kept)


def after(links: Mapping[str, Link], steps: Iterable[Step]) -> LinkTable:
    """What `links` become when `steps` are done."""
    result = LinkTable(links.values())
    for step in steps:
        result.apply(step)
    return result
