"""IP ranges and the rules they obey.

A range is bounded by `first` and `last`, both inclusive, inside the subnet that `first` and the prefix length give.
Of it, everything is handed out but the gateway and, for IPv4 with a prefix shorter than /31, the subnet's network and
broadcast address. So bounds may include these; they are never handed out and never counted.
"""

import ipaddress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal
from uuid import UUID

from viaduct_common.errors import InvalidRequest
from viaduct_common.messages.ipam import AddressMode, CreateRange, UnavailableReason
from viaduct_ipam.model.intervals import IntervalSet
from viaduct_ipam.model.slaac import SLAAC_PREFIX_LENGTH

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
RangeType = Literal["normal", "addressPool"]

FORBIDDEN: tuple[tuple[str, Network], ...] = (
    ("unspecified", ipaddress.ip_network("0.0.0.0/8")),
    ("loopback", ipaddress.ip_network("127.0.0.0/8")),
    ("link-local", ipaddress.ip_network("169.254.0.0/16")),
    ("multicast", ipaddress.ip_network("224.0.0.0/4")),
    ("class E", ipaddress.ip_network("240.0.0.0/4")),
    ("unspecified", ipaddress.ip_network("::/128")),
    ("loopback", ipaddress.ip_network("::1/128")),
    ("IPv4-mapped", ipaddress.ip_network("::ffff:0:0/96")),
    ("link-local", ipaddress.ip_network("fe80::/10")),
    ("multicast", ipaddress.ip_network("ff00::/8")),
)


@dataclass(frozen=True)
class Bounds:
    """A range without its name and owner; right by construction when it comes from `bounds_of`.

    `address_mode` is how guests come to their addresses (RFC 4861 §4.2 names the flags): None for IPv4.
    """

    type: RangeType
    first: Address
    last: Address
    prefix_length: int
    gateway: Address | None
    address_mode: AddressMode | None = None

    @property
    def version(self) -> int:
        return self.first.version

    @cached_property
    def network(self) -> Network:
        return ipaddress.ip_network((self.first, self.prefix_length), strict=False)

    @cached_property
    def interval(self) -> IntervalSet:
        return IntervalSet.of([(int(self.first), int(self.last))])

    @cached_property
    def assignable(self) -> IntervalSet:
        """What can ever be handed out."""
        never = [int(address) for address in _edges(self.network)]
        if self.gateway is not None:
            never.append(int(self.gateway))
        return self.interval.minus(IntervalSet.of((one, one) for one in never))

    def __contains__(self, ip: Address) -> bool:
        return ip.version == self.version and self.first <= ip <= self.last  # type: ignore[operator]  # one version

    def never(self, ip: Address) -> UnavailableReason | None:
        """Why `ip` is handed out by no range of this subnet, or None; `ip` need not be between the bounds."""
        if ip == self.gateway:
            return "GATEWAY"
        edges = _edges(self.network)
        if edges and ip == edges[0]:
            return "NETWORK"
        if edges and ip == edges[1]:
            return "BROADCAST"
        return None

    def address(self, number: int) -> Address:
        """The address of this range's version with that number."""
        return type(self.first)(number)


@dataclass(frozen=True)
class Range:
    """A stored range; `last_given` is the address that next fit gave last of it.

    `taken_reserved_count` of its used and cooling addresses lie in a reservation.
    """

    uuid: UUID
    l3_network_uuid: UUID
    name: str | None
    bounds: Bounds
    used_count: int
    last_given: Address | None
    created_at: datetime
    cooling_count: int = 0
    taken_reserved_count: int = 0


def bounds_of(request: CreateRange) -> tuple[Bounds, ...]:
    """The ranges that a request asks for, ascending: several when a CIDR is split around its gateway.

    What they must be beside the other ranges of their L3 network says `viaduct_ipam.model.siblings`.

    Raises:
        InvalidRequest: one of the bounds is bad, whatever other ranges there are.
    """
    if request.network_cidr is None:
        return (_bounds_of_ends(request),)
    if any(part is not None for part in (request.start_ip, request.end_ip, request.netmask, request.prefix_length)):
        raise InvalidRequest.of_field("networkCidr", "give either a CIDR or startIp, endIp and the netmask")
    return _bounds_of_cidr(request, request.network_cidr)


def _bounds_of_ends(request: CreateRange) -> Bounds:
    first, last = request.start_ip, request.end_ip
    if first is None:
        raise InvalidRequest.of_field("startIp", "give startIp and endIp, or networkCidr")
    if last is None:
        raise InvalidRequest.of_field("endIp", "give startIp and endIp, or networkCidr")
    if last.version != first.version:
        raise InvalidRequest.of_field("endIp", "startIp and endIp are of one IP version")
    if last < first:  # type: ignore[operator]  # one version
        raise InvalidRequest.of_field("endIp", "must not be below startIp")
    length = _prefix_length(request, first)
    mode = _address_mode(request, first.version, length, "prefixLength" if request.netmask is None else "netmask")
    bounds = Bounds(request.type, first, last, length, request.gateway, mode)
    if last not in bounds.network:
        raise InvalidRequest.of_field("endIp", f"outside {bounds.network}, the subnet of startIp")
    for reason, network in FORBIDDEN:
        if network.version == first.version and network.overlaps(bounds.network):
            if first in network:
                raise InvalidRequest.of_field("startIp", f"a {reason} address")
            if first <= network.network_address and network.network_address <= last:  # type: ignore[operator]
                raise InvalidRequest.of_field("endIp", f"the range holds {reason} addresses")
    _check_gateway(request.gateway, bounds.network)
    if not bounds.assignable.parts:
        raise InvalidRequest.of_field("startIp", "the range holds no address that can be handed out")
    return bounds


def _bounds_of_cidr(request: CreateRange, cidr: str) -> tuple[Bounds, ...]:
    """Split the CIDR around its gateway.

    The subnet-router anycast address (RFC 4291 §2.6.1: an IPv6 subnet's first) is left out of a CIDR, except in a
    /127 (RFC 6164) and a /128; who wants it, gives it as startIp.
    """
    network = _parse_cidr(cidr)
    mode = _address_mode(request, network.version, network.prefixlen, "networkCidr")
    first, last = int(network.network_address), int(network.broadcast_address)
    if _edges(network):
        first, last = first + 1, last - 1
    elif network.prefixlen < network.max_prefixlen - 1:
        first += 1
    gateway = request.gateway
    if gateway is None and request.type == "normal":
        gateway = type(network.network_address)(first)
    _check_gateway(gateway, network)
    usable = IntervalSet.of([(first, last)])
    if gateway is not None:
        usable = usable.minus(IntervalSet.of([(int(gateway), int(gateway))]))
    if not usable.parts:
        raise InvalidRequest.of_field("networkCidr", "no address is left beside the gateway")
    address = type(network.network_address)
    return tuple(
        Bounds(request.type, address(low), address(high), network.prefixlen, gateway, mode)
        for low, high in usable.parts
    )


def _address_mode(request: CreateRange, version: int, prefix_length: int, length_field: str) -> AddressMode | None:
    """The mode that is asked for; where guests make their addresses, a /64 is wanted (RFC 4862 §5.5.3 with RFC 4291
    §2.5.1). Nobody makes an address of a pool: those are given out one by one."""
    if version == 4:
        if request.address_mode is not None:
            raise InvalidRequest.of_field("addressMode", "only IPv6 has address modes")
        return None
    mode = request.address_mode or "stateful"
    if mode == "stateful":
        return mode
    if request.type == "addressPool":
        raise InvalidRequest.of_field("addressMode", "an address pool is stateful")
    if prefix_length != SLAAC_PREFIX_LENGTH:
        raise InvalidRequest.of_field(length_field, f"{mode} wants a /{SLAAC_PREFIX_LENGTH}, not a /{prefix_length}")
    return mode


def _parse_cidr(cidr: str) -> Network:
    _, slash, prefix = cidr.partition("/")
    # ipaddress would also take a netmask or a wildcard mask behind the slash, and no slash at all.
    if not slash or not (prefix.isascii() and prefix.isdigit()):
        raise InvalidRequest.of_field("networkCidr", "an address, a slash and a prefix length are wanted")
    try:
        network = ipaddress.ip_network(cidr, strict=False)
    except ValueError as error:
        raise InvalidRequest.of_field("networkCidr", str(error)) from None
    if network.prefixlen == 0:
        raise InvalidRequest.of_field("networkCidr", "a prefix length of 0 is no subnet")
    for reason, forbidden in FORBIDDEN:
        if forbidden.version == network.version and forbidden.overlaps(network):
            raise InvalidRequest.of_field("networkCidr", f"holds {reason} addresses")
    return network


def _prefix_length(request: CreateRange, first: Address) -> int:
    field, length = "prefixLength", request.prefix_length
    if request.netmask is not None:
        from_netmask = _length_of_netmask(request.netmask, first)
        if length is not None and length != from_netmask:
            raise InvalidRequest.of_field("prefixLength", f"the netmask {request.netmask} is /{from_netmask}")
        field, length = "netmask", from_netmask
    if length is None:
        raise InvalidRequest.of_field("prefixLength", "give a netmask or a prefixLength with startIp and endIp")
    if not 1 <= length <= first.max_prefixlen:
        raise InvalidRequest.of_field(field, f"a prefix length from 1 to {first.max_prefixlen} is wanted")
    return length


def _length_of_netmask(netmask: Address, first: Address) -> int:
    if netmask.version != first.version:
        raise InvalidRequest.of_field("netmask", "of another IP version than startIp")
    hosts = int(netmask) ^ ((1 << netmask.max_prefixlen) - 1)
    if hosts & (hosts + 1):
        raise InvalidRequest.of_field("netmask", "the ones must come before the zeros")
    return netmask.max_prefixlen - hosts.bit_length()


def _check_gateway(gateway: Address | None, network: Network) -> None:
    if gateway is None:
        return
    if gateway.version != network.version:
        raise InvalidRequest.of_field("gateway", "of another IP version than the range")
    if gateway not in network:
        raise InvalidRequest.of_field("gateway", f"outside the subnet {network}")
    if gateway in _edges(network):
        raise InvalidRequest.of_field("gateway", "the network or broadcast address of its subnet")
    for reason, forbidden in FORBIDDEN:
        if gateway in forbidden:
            raise InvalidRequest.of_field("gateway", f"a {reason} address")


def _edges(network: Network) -> tuple[Address, ...]:
    """Network and broadcast address where there are such: IPv4, prefix shorter than /31 (RFC 3021)."""
    if network.version == 6 or network.prefixlen >= 31:
        return ()
    return (network.network_address, network.broadcast_address)
