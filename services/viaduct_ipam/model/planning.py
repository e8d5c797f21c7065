"""What a request to allocate gets: the decision, over plain values.

A plan is a generator. It yields lists of asks; whoever runs it lets the state learn the answers and resumes it. Its
first yield are hints, before anything is decided: so the hints of many plans can be answered at once. Plans of one
scope are then run one after the other, each on what the ones before it have left.
"""

import random
from collections.abc import Generator
from dataclasses import dataclass
from ipaddress import IPv6Network
from typing import Any

from viaduct_common.errors import Exhausted, InvalidRequest, IpInUse, NotFound, NotInRange, ViaductError
from viaduct_common.messages.ipam import AllocateIp
from viaduct_ipam.model.asks import Ask, BlockAsk, CoolingAsk, FormerAsk
from viaduct_ipam.model.availability import why_never
from viaduct_ipam.model.blocks import block_of, masks_by_block
from viaduct_ipam.model.layout import Layout, OpenRange, Space
from viaduct_ipam.model.ranges import Address
from viaduct_ipam.model.search import Finder
from viaduct_ipam.model.slaac import slaac_address
from viaduct_ipam.model.state import Pick, ScopeState
from viaduct_ipam.model.strategies import STRATEGIES, Strategy

Plan = Generator[list[Ask], None, list[Pick]]


def check_allocation(request: AllocateIp) -> None:
    """Raises:
    InvalidRequest: the request contradicts itself.
    """
    versions = request.ip_versions
    if versions is not None:
        if request.ip_version is not None:
            raise InvalidRequest.of_field("ipVersions", "give either ipVersion or ipVersions")
        if len(set(versions)) != len(versions):
            raise InvalidRequest.of_field("ipVersions", "each version once")
        if request.range_uuid is not None and len(versions) > 1:
            raise InvalidRequest.of_field("rangeUuid", "a range is of one IP version")
    if request.required_ip is None:
        return
    if request.count != 1:
        raise InvalidRequest.of_field("count", "a requiredIp is one address")
    if request.ip_version not in {None, request.required_ip.version}:
        raise InvalidRequest.of_field("ipVersion", "requiredIp is of the other IP version")
    if versions is not None and request.required_ip.version not in versions:
        raise InvalidRequest.of_field("ipVersions", "requiredIp is of the other IP version")
    if request.required_ip in request.excluded_ips:
        raise InvalidRequest.of_field("excludedIps", "requiredIp is among them")


def plan_allocation(request: AllocateIp, state: ScopeState, rng: random.Random) -> Plan:
    """All or none of what is asked for, taken in the state; sets of several versions come set by set.

    Raises:
        InvalidRequest: the request contradicts itself, or lacks what its ranges need.
        NotFound: the L3 network has no such range.
        NotInRange, IpInUse: the required address cannot be had; `details.reason` says why.
        Exhausted: fewer than `count` are free.
    """
    check_allocation(request)
    parts = [_Part(request, state, version, space, rng) for version, space in spaces_of(request, state.layout)]
    yield parts[0].hints() if len(parts) == 1 else [ask for part in parts for ask in part.hints()]
    picks: list[list[Pick]] = []
    try:
        for part in parts:
            picks.append(part.picks)
            yield from part.run()
    except ViaductError:
        for pick in (pick for of_part in picks for pick in of_part):
            state.put_back(pick)
        raise
    for part in parts:
        part.move_cursor()
    if len(picks) == 1:
        return picks[0]
    return [pick for together in zip(*picks, strict=True) for pick in together]


def exhausted(request: AllocateIp, state: ScopeState, *, free: int) -> Exhausted:
    """The refusal for want of free addresses."""
    return Exhausted(
        f"{request.count} addresses are wanted, {free} are free",
        l3NetworkUuid=str(state.l3_network_uuid),
        rangeUuid=str(request.range_uuid) if request.range_uuid else None,
        wanted=request.count,
        free=free,
    )


def spaces_of(request: AllocateIp, layout: Layout) -> list[tuple[int, Space]]:
    """Where each IP version that is asked for is looked for. Where none is named, by version, address or range, that is
    IPv4 if the L3 network has an IPv4 range."""
    if request.range_uuid is not None:
        if request.range_uuid not in layout.by_uuid:
            raise NotFound.of("range", request.range_uuid)
        version = layout.by_uuid[request.range_uuid].range.bounds.version
        if request.ip_version not in {None, version} or (request.ip_versions or [version]) != [version]:
            field = "ipVersion" if request.ip_version is not None else "ipVersions"
            raise InvalidRequest.of_field(field, "the range is of the other IP version")
        return [(version, layout.space_of_range(request.range_uuid))]
    versions = request.ip_versions
    if versions is None:
        asked = request.required_ip.version if request.required_ip else request.ip_version
        versions = [asked or min(layout.versions, default=4)]
    return [(version, layout.space_of_version(version)) for version in versions]


@dataclass(frozen=True)
class _Wanted:
    """An address asked for by name, or made from a MAC."""

    ip: Address
    field: str


class _Part:
    """The addresses of one IP version of one request."""

    def __init__(self, request: AllocateIp, state: ScopeState, version: int, space: Space, rng: random.Random) -> None:
        self.picks: list[Pick] = []
        self._request = request
        self._state = state
        self._space = space
        self._version = version
        self._strategy: Strategy = STRATEGIES[request.strategy or state.strategy]
        self._required = self._required_ip()
        self._held = [] if self._required or not state.layout.holds_any else self._held_for_it()
        self._former = not self._required and self._strategy.prefers_former and request.owner is not None
        self._cursor_key = request.range_uuid if request.range_uuid is not None else self._version
        self._searched = False
        self._excluded = (
            masks_by_block(int(ip) for ip in request.excluded_ips if ip.version == version)
            if request.excluded_ips
            else {}
        )
        self._finder = Finder(state, space, self._strategy, self._excluded, rng)
        self._points = [] if self._required else self._strategy.points(space, request.count, rng, state.drawn)

    def hints(self) -> list[Ask]:
        """What is certain to be needed."""
        if self._required:
            return self._unknown_block(int(self._required.ip))
        asks = [ask for ip in self._held for ask in self._unknown_block(ip)] if self._held else []
        if self._former and self._request.owner not in self._state.former:
            assert self._request.owner is not None
            asks.append(FormerAsk(self._request.owner, self._request.count))
        return asks + self._finder.hints(self._points) if self._points else asks

    def run(self) -> Generator[list[Ask], None, None]:
        """Fill `picks`, which the caller gives back if anything fails."""
        if self._required:
            yield from self._take_required(self._required)
            return
        wanted = self._request.count
        for ip in self._held:
            if len(self.picks) < wanted:
                yield from self._take_if_free(ip, held=True)
        if self._former:
            for version, ip in self._state.former.get(self._request.owner or "", ()):
                if version == self._version and len(self.picks) < wanted:
                    yield from self._take_if_free(ip, held=False)
        missing = wanted - len(self.picks)
        if missing:
            self._searched = True
            yield from self._finder.find(missing, self._points, self._state.cursors.get(self._cursor_key), self.picks)
        if len(self.picks) < wanted:
            raise exhausted(self._request, self._state, free=len(self.picks))

    def move_cursor(self) -> None:
        """Remember where next fit goes on."""
        if self._searched and self._strategy.moves_cursor:
            self._state.move_cursor(self.picks[-1])

    # ---- one address -----------------------------------------------------------------------------------------

    def _required_ip(self) -> _Wanted | None:
        required = self._request.required_ip
        ranges = self._space.ranges
        if required is not None and required.version == self._version:
            return _Wanted(required, "requiredIp")
        if not self._space.makes_addresses:
            return None
        if self._request.mac is None:
            raise InvalidRequest.of_field("mac", f"addresses of {ranges[0].range.bounds.network} are made from a MAC")
        if self._request.count != 1:
            raise InvalidRequest.of_field("count", "a MAC makes one address")
        network = ranges[0].range.bounds.network
        assert isinstance(network, IPv6Network)
        made = slaac_address(network, self._request.mac)
        if made in self._request.excluded_ips:
            raise InvalidRequest.of_field("excludedIps", f"{made}, made from the MAC, is among them")
        return _Wanted(made, "mac")

    def _take_required(self, wanted: _Wanted) -> Generator[list[Ask], None, None]:
        ip = wanted.ip
        reason: str | None = why_never(ip, [one.range for one in self._space.ranges])
        details: dict[str, Any] = {"ip": str(ip), "reason": reason, "l3NetworkUuid": str(self._state.l3_network_uuid)}
        if reason in {"NOT_IN_RANGE", "NETWORK", "BROADCAST"}:
            raise NotInRange(f"{ip} is handed out by no range ({reason})", **details)
        home = self._home(int(ip))
        if home is not None and reason is None:
            reason = yield from self._why_taken(home, int(ip))
        if reason is None and self._state.layout.is_reserved(ip) and not self._may_have_reserved(int(ip)):
            reason = "RESERVED"
        if home is None or reason is not None:
            details["reason"] = reason
            raise IpInUse(f"{ip} cannot be had ({reason})", **details)
        self._take(home, int(ip))

    def _take_if_free(self, ip: int, *, held: bool) -> Generator[list[Ask], None, None]:
        home = self._home(ip)
        if home is None or self._is_excluded(ip) or ip not in home.range.bounds.assignable:
            return
        if not held and ip not in home.open:
            return
        if (yield from self._why_taken(home, ip)) is None:
            self._take(home, ip)

    def _why_taken(self, home: OpenRange, ip: int) -> Generator[list[Ask], None, str | None]:
        """None also for an address that cools for the one who asks: the former owner may have it back."""
        asks = self._unknown_block(ip)
        if asks:
            yield asks
        block = block_of(ip)
        if not self._state.occupancy_of(home.uuid).taken[block] >> (ip - block) & 1:
            return None
        key = (self._version, ip)
        if not self._state.may_cool or key in self._state.uncooled:
            return "USED"
        if key not in self._state.cooling:
            yield [CoolingAsk(*key)]
        cooling = self._state.cooling[key]
        if cooling is None:
            return "USED"
        return None if cooling.owner is not None and cooling.owner == self._request.owner else "COOLING"

    def _take(self, home: OpenRange, ip: int) -> None:
        pick = Pick(home, ip)
        self._state.take(pick)
        self.picks.append(pick)

    # ---- looking up ------------------------------------------------------------------------------------------

    def _held_for_it(self) -> list[int]:
        return list(dict.fromkeys(self._state.layout.held_for(self._request.owner, self._request.mac, self._version)))

    def _may_have_reserved(self, ip: int) -> bool:
        return self._request.allow_reserved or ip in self._held_for_it()

    def _home(self, ip: int) -> OpenRange | None:
        index = self._space.index_of(ip)
        return None if index is None else self._space.ranges[index]

    def _is_excluded(self, ip: int) -> bool:
        block = block_of(ip)
        return bool(self._excluded.get(block, 0) >> (ip - block) & 1)

    def _unknown_block(self, ip: int) -> list[Ask]:
        home = self._home(ip)
        if home is None or block_of(ip) in self._state.occupancy_of(home.uuid).taken:
            return []
        return [BlockAsk(home.uuid, block_of(ip))]
