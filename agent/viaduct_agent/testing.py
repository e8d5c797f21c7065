"""For tests of backends, ours and others': a kernel in memory, at the same seam as the real one."""

import asyncio
import errno
import ipaddress
from collections.abc import Iterable, Mapping, MutableMapping, Sequence

from viaduct_agent.links.addresses import NOTHING, Address, Route
from viaduct_agent.links.kernel import EVERYTHING, Applied, Look
from viaduct_agent.links.kinds import BRIDGE
from viaduct_agent.links.model import AddEntry, AddLink, DelEntry, DelLink, Link, SetLink, Step, with_values
from viaduct_agent.links.table import LinkTable
from viaduct_common.errors import BackendFailed


class FakeKernel:
    """A `Kernel` that refuses what the real one refuses. `fail_at` makes the n-th step from now fail (0: the next)."""

    def __init__(self, links: Iterable[Link] = ()) -> None:
        self._next_index = 1
        self.links = LinkTable(with_values(link, index=self._take_index()) for link in links)
        self.applied: list[Step] = []
        self.fail_at: int | None = None

    async def observe(self, look: Look = EVERYTHING) -> LinkTable:
        await asyncio.sleep(0)  # as the real one: others get their turn
        names = set(self.links) if look.names is None else look.names & set(self.links)
        for name in sorted(names):
            link = self.links[name]
            names |= {other for other in (link.master, link.parent) if other is not None and other in self.links}
            if link.kind == BRIDGE:
                names |= {port.name for port in self.links.ports_of(name)}
        found = [self.links.carrier_of(address) for address in look.carriers_of]
        carriers = {carrier.name for carrier in found if carrier is not None}
        read = look.addresses_of | look.inet_of | carriers
        return LinkTable(
            with_values(
                self.links[name],
                addresses=self.links[name].addresses or () if name in read else None,
                inet=self.links[name].inet or NOTHING if name in look.inet_of else None,
                entries=self.links[name].entries or frozenset() if name in look.entries_of else None,
            )
            for name in sorted(names | carriers)
        )

    async def apply(self, plans: Sequence[Sequence[Step]], indexes: MutableMapping[str, int]) -> list[Applied]:
        await asyncio.sleep(0)
        return [self._apply(steps, indexes) for steps in plans]

    def _apply(self, steps: Sequence[Step], indexes: MutableMapping[str, int]) -> Applied:
        outcome = Applied()
        for step in steps:
            try:
                outcome.done.append(self._do(step, indexes))
            except BackendFailed as refusal:
                outcome.refusal = refusal
                break
        return outcome

    def _do(self, step: Step, indexes: MutableMapping[str, int]) -> Step:
        if self.fail_at is not None:
            self.fail_at -= 1
            if self.fail_at < 0:
                self.fail_at = None
                raise _refusal(errno.EIO, step)
        match step:
            case AddLink(link):
                self._check_new(step, indexes)
                step = AddLink(with_values(link, index=self._take_index()))
                indexes[link.name] = step.link.index
            case SetLink(before, link):
                have = self._by_index(before.index, step)
                changed = {name: getattr(link, name) for name in step.changed - {"alias"}}
                step = SetLink(have, with_values(have, **changed, owner=link.owner, generation=link.generation))
            case DelLink(link):
                step = DelLink(self._by_index(link.index, step))
                indexes.pop(link.name, None)
            case AddEntry(device, Route() as route):
                self._check_route(route, self._by_index(indexes.get(device, 0), step), step)
            case DelEntry(device, Address() as address):
                link = self._by_index(indexes.get(device, 0), step)
                for other in _secondaries(address, link):
                    self.links.apply(DelEntry(device, other))
            case AddEntry(device) | DelEntry(device):
                self._by_index(indexes.get(device, 0), step)
        self.links.apply(step)
        self.applied.append(step)
        self._forget_routes()
        return step

    def _check_route(self, route: Route, link: Link, step: Step) -> None:
        """A next hop must be on the link; a source must be an address of the host."""
        things = (link.inet or NOTHING).things
        near = {thing.subnet for thing in things if isinstance(thing, Address)}
        near |= {thing.to for thing in things if isinstance(thing, Route) and thing.via is None}
        if route.via is not None and not route.onlink and not route.via.startswith("fe80:"):
            via = ipaddress.ip_address(route.via)
            if not any(via in ipaddress.ip_network(subnet) for subnet in near):
                raise _refusal(errno.ENETUNREACH, step)
        if route.source is not None and route.source not in self._locals():
            raise _refusal(errno.EINVAL, step)

    def _locals(self) -> set[str]:
        things = [thing for link in self.links.values() for thing in (link.inet or NOTHING).things]
        return {thing.local for thing in things if isinstance(thing, Address)}

    def _forget_routes(self) -> None:
        """Routes of IPv4 whose source the host has no more (net/ipv4/fib_semantics.c, fib_sync_down_addr)."""
        known = self._locals()
        for link in list(self.links.values()):
            for thing in (link.inet or NOTHING).things:
                if isinstance(thing, Route) and thing.source is not None and thing.source not in known:
                    self.links.apply(DelEntry(link.name, thing))

    def _check_new(self, step: AddLink, indexes: Mapping[str, int]) -> None:
        link = step.link
        if link.name in self.links:
            raise _refusal(errno.EEXIST, step)
        for name in (link.master, link.parent):
            if name is not None and (name not in self.links or indexes.get(name) != self.links[name].index):
                raise _refusal(errno.ENODEV, step)

    def _by_index(self, index: int, step: Step) -> Link:
        for link in self.links.values():
            if link.index == index:
                return link
        raise _refusal(errno.ENODEV, step)

    def _take_index(self) -> int:
        self._next_index += 1
        return self._next_index


def _secondaries(address: Address, link: Link) -> list[Address]:
    """Those that go with their primary address, the first of its subnet (ip-sysctl.rst, promote_secondaries off)."""
    things = (link.inet or NOTHING).things
    same = [thing for thing in things if isinstance(thing, Address) and thing.subnet == address.subnet]
    return same[1:] if address.version == 4 and same[:1] == [address] else []


def _refusal(code: int, step: Step) -> BackendFailed:
    return BackendFailed(f"{step.command}: refused", step=step.command, device=step.device, errno=code)
