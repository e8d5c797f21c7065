"""Addresses and routes as rtnetlink messages, both ways (rtnetlink(7), `linux/if_addr.h`, `linux/rtnetlink.h`)."""

import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from viaduct_agent.links import encode
from viaduct_agent.links.addresses import KEPT_FLAGS, NODAD, PROTO_KERNEL_RA, Address, Route, Thing
from viaduct_agent.links.parse import attributes

_RTM_NEWADDR, _RTM_DELADDR, _RTM_NEWROUTE, _RTM_DELROUTE = 20, 21, 24, 25
_RTM_GETROUTE, _RTM_GETRULE = 26, 34
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_REPLACE, _EXCL, _CREATE = 0x100, 0x200, 0x400
_IFADDR = struct.Struct("=BBBBi")
_CACHEINFO = struct.Struct("=IIII")
_IFA_ADDRESS, _IFA_LOCAL, _IFA_LABEL, _IFA_BROADCAST, _IFA_CACHEINFO = 1, 2, 3, 4, 6
_IFA_FLAGS, _IFA_RT_PRIORITY, _IFA_PROTO = 8, 9, 11
_IFA_F_TEMPORARY, _IFA_F_TENTATIVE = 0x01, 0x40
_FOR_EVER = 0xFFFF_FFFF
_RTMSG = struct.Struct("=BBBBBBBBI")
_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC = 1, 2, 4, 5, 6, 7
_RTA_METRICS, _RTA_MULTIPATH, _RTA_FLOW, _RTA_CACHEINFO, _RTA_TABLE = 8, 9, 11, 12, 15
_RTA_VIA, _RTA_PREF, _RTA_ENCAP, _RTA_EXPIRES, _RTA_NH_ID = 18, 20, 22, 23, 30
_RTAX_CC_ALGO = 16
_RTNH = struct.Struct("=HBBi")
_RTNH_F_ONLINK, _RTM_F_CLONED = 4, 0x200
_USER_HZ = 100
_FRA_IIFNAME, _FRA_OIFNAME = 3, 17
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass(frozen=True, slots=True)
class RawRoute:
    """A route over one device, and why it could not be moved to another."""

    index: int
    route: Route
    obstacle: str | None = None


# ---- answers -----------------------------------------------------------------------------------------------------


def parse_thing(body: bytes, name: str) -> tuple[int, Address] | None:
    """Interface index and address of an RTM_NEWADDR; None for what belongs to the host, not to a network (scope
    `host`). `name` is the device's."""
    family, prefix, flags, scope, index = _IFADDR.unpack_from(body)
    found = dict(attributes(body, _IFADDR.size, len(body)))
    if scope == 254 or family not in _FAMILIES.values():
        return None
    local, other = found.get(_IFA_LOCAL), found.get(_IFA_ADDRESS)
    label = found.get(_IFA_LABEL, b"").rstrip(b"\0").decode(errors="replace")
    flags = _u32(found.get(_IFA_FLAGS)) if _IFA_FLAGS in found else flags
    preferred, valid, _, _ = _CACHEINFO.unpack(
        found.get(_IFA_CACHEINFO, struct.pack("=IIII", _FOR_EVER, _FOR_EVER, 0, 0))
    )
    temporary = family == socket.AF_INET6 and flags & _IFA_F_TEMPORARY
    protocol = found.get(_IFA_PROTO, b"\0")[0]
    return index, Address(
        local=_ip(local or other or b"") or "",
        prefix=prefix,
        peer=_ip(other) if local and other and local != other else None,
        broadcast=_ip(found.get(_IFA_BROADCAST)),
        scope=scope,
        label=label if label and label != name else None,
        flags=flags & KEPT_FLAGS,
        metric=_u32(found.get(_IFA_RT_PRIORITY)),
        protocol=PROTO_KERNEL_RA if temporary else protocol,
        valid_seconds=None if valid == _FOR_EVER else valid,
        preferred_seconds=None if preferred == _FOR_EVER else preferred,
    )


def index_of_address(body: bytes) -> int:
    """Of an RTM_NEWADDR: the interface's."""
    index: int = _IFADDR.unpack_from(body)[4]
    return index


def parse_routes(body: bytes) -> list[RawRoute]:
    """The routes of an RTM_NEWROUTE, one for each next hop: of IPv6 these are routes of their own, told together."""
    family, dst_len, src_len, tos, table, protocol, scope, kind, flags = _RTMSG.unpack_from(body)
    if flags & _RTM_F_CLONED or family not in _FAMILIES.values():
        return []
    found = dict(attributes(body, _RTMSG.size, len(body)))
    expires = _expires(found.get(_RTA_CACHEINFO)) if family == socket.AF_INET6 else None
    route = Route(
        to=_subnet(family, found.get(_RTA_DST), dst_len),
        table=_u32(found.get(_RTA_TABLE)) or table,
        metric=_u32(found.get(_RTA_PRIORITY)),
        protocol=protocol,
        scope=scope,
        kind=kind,
        source=_ip(found.get(_RTA_PREFSRC)),
        tos=tos,
        origin=_subnet(family, found.get(_RTA_SRC), src_len) if src_len else None,
        preference=found[_RTA_PREF][0] if _RTA_PREF in found else None,
        realm=_u32(found.get(_RTA_FLOW)),
        metrics=tuple(_metrics(found.get(_RTA_METRICS, b""))),
        expires_seconds=expires,
    )
    obstacle = None
    if _RTA_NH_ID in found:
        obstacle = f"the route to {route.to} uses a next-hop object (ip-nexthop(8))"
    if _RTA_MULTIPATH not in found:
        obstacle = _encapsulated(route, found) or obstacle
        return [RawRoute(_u32(found.get(_RTA_OIF)), _by(route, found, flags), obstacle)]
    hops = list(_hops(found[_RTA_MULTIPATH]))
    if family == socket.AF_INET or any(weight for _, weight, _, _ in hops):
        obstacle = f"the route to {route.to} has several next hops"
    return [
        RawRoute(index, _by(route, own, hop_flags), _encapsulated(route, own) or obstacle)
        for index, _, hop_flags, own in hops
    ]


def parse_rule_devices(body: bytes) -> set[str]:
    """The names of devices that an RTM_NEWRULE goes by (ip-rule(8), `iif` and `oif`)."""
    found = dict(attributes(body, _RTMSG.size, len(body)))
    names = (found.get(kind, b"").rstrip(b"\0").decode(errors="replace") for kind in (_FRA_IIFNAME, _FRA_OIFNAME))
    return {name for name in names if name}


# ---- questions ---------------------------------------------------------------------------------------------------


def dump_routes(index: int, version: int) -> bytearray:
    """`ip route show table all dev ...`; of all devices with index 0."""
    fixed = _RTMSG.pack(_FAMILIES[version], 0, 0, 0, 0, 0, 0, 0, 0)
    return encode.message(_RTM_GETROUTE, _REQUEST | _DUMP, fixed, (encode.number(_RTA_OIF, index),) if index else ())


def dump_rules() -> bytearray:
    """`ip rule show`, of both families."""
    return encode.message(_RTM_GETRULE, _REQUEST | _DUMP, _RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0), ())


# ---- changes -----------------------------------------------------------------------------------------------------


def addition(index: int, thing: Thing) -> bytearray:
    """An address of IPv6 is added with `nodad`: it was on the wire a moment ago, and must not be silent for the second
    that the detection of duplicates takes. See `correction`."""
    if isinstance(thing, Route):
        # Neither EXCL nor APPEND: beside others to the same destination, before them (`ip route prepend`).
        return _route(_RTM_NEWROUTE, _REQUEST | _ACK | _CREATE, index, thing)
    quiet = thing if thing.version == 4 else replace(thing, flags=thing.flags | NODAD)
    return _address(_RTM_NEWADDR, _REQUEST | _ACK | _CREATE | _EXCL, index, quiet)


def correction(index: int, address: Address) -> bytearray:
    """`ip address change`: the flags as they should be, once the address is in use. Makes it, if it is gone."""
    return _address(_RTM_NEWADDR, _REQUEST | _ACK | _REPLACE, index, address)


def in_use(bodies: Iterable[bytes]) -> dict[str, bool]:
    """Of the RTM_NEWADDR of one device: whether each address is more than tentative."""
    found = {}
    for body in bodies:
        parsed = dict(attributes(body, _IFADDR.size, len(body)))
        flags = _u32(parsed.get(_IFA_FLAGS)) if _IFA_FLAGS in parsed else _IFADDR.unpack_from(body)[2]
        found[_ip(parsed.get(_IFA_LOCAL) or parsed.get(_IFA_ADDRESS)) or ""] = not flags & _IFA_F_TENTATIVE
    return found


def removal(index: int, thing: Thing) -> bytearray:
    if isinstance(thing, Route):
        return _route(_RTM_DELROUTE, _REQUEST | _ACK, index, replace(thing, expires_seconds=None, preference=None))
    parts = [encode.attribute(_IFA_LOCAL, _packed(thing.local))]
    parts.append(encode.attribute(_IFA_ADDRESS, _packed(thing.peer or thing.local)))
    return encode.address_message(
        _RTM_DELADDR, _REQUEST | _ACK, index, *parts, family=_FAMILIES[thing.version], prefix=thing.prefix
    )


def _address(kind: int, flags: int, index: int, address: Address) -> bytearray:
    parts = [
        encode.attribute(_IFA_LOCAL, _packed(address.local)),
        encode.attribute(_IFA_ADDRESS, _packed(address.peer or address.local)),
        encode.number(_IFA_FLAGS, address.flags),
    ]
    if address.broadcast:
        parts.append(encode.attribute(_IFA_BROADCAST, _packed(address.broadcast)))
    if address.label:
        parts.append(encode.text(_IFA_LABEL, address.label))
    if address.metric:
        parts.append(encode.number(_IFA_RT_PRIORITY, address.metric))
    if address.protocol:
        parts.append(encode.attribute(_IFA_PROTO, bytes([address.protocol])))
    if address.valid_seconds is not None or address.preferred_seconds is not None:
        valid = _FOR_EVER if address.valid_seconds is None else max(1, address.valid_seconds)
        preferred = _FOR_EVER if address.preferred_seconds is None else address.preferred_seconds
        parts.append(encode.attribute(_IFA_CACHEINFO, _CACHEINFO.pack(min(preferred, valid), valid, 0, 0)))
    family = _FAMILIES[address.version]
    scope = address.scope if address.version == 4 else 0
    return encode.address_message(kind, flags, index, *parts, family=family, prefix=address.prefix, scope=scope)


def _route(kind: int, flags: int, index: int, route: Route) -> bytearray:
    destination = ipaddress.ip_network(route.to)
    origin = None if route.origin is None else ipaddress.ip_network(route.origin)
    table = route.table if route.table < 256 else 0
    fixed = _RTMSG.pack(
        _FAMILIES[route.version], destination.prefixlen, 0 if origin is None else origin.prefixlen, route.tos, table,
        route.protocol, route.scope, route.kind, _RTNH_F_ONLINK if route.onlink else 0,
    )  # fmt: skip
    parts = [encode.number(_RTA_TABLE, route.table), encode.number(_RTA_OIF, index)]
    if destination.prefixlen:
        parts.append(encode.attribute(_RTA_DST, destination.network_address.packed))
    if origin is not None:
        parts.append(encode.attribute(_RTA_SRC, origin.network_address.packed))
    if route.via is not None:
        parts.append(_via(route, route.via))
    if route.metric:
        parts.append(encode.number(_RTA_PRIORITY, route.metric))
    if route.source:
        parts.append(encode.attribute(_RTA_PREFSRC, _packed(route.source)))
    if route.preference is not None:
        parts.append(encode.attribute(_RTA_PREF, bytes([route.preference])))
    if route.realm:
        parts.append(encode.number(_RTA_FLOW, route.realm))
    if route.metrics:
        parts.append(encode.nested(_RTA_METRICS, *(_metric(number, value) for number, value in route.metrics)))
    if route.expires_seconds is not None:
        parts.append(encode.number(_RTA_EXPIRES, max(1, route.expires_seconds)))
    return encode.message(kind, flags, fixed, tuple(parts))


def _via(route: Route, via: str) -> bytes:
    version = 6 if ":" in via else 4
    if version == route.version:
        return encode.attribute(_RTA_GATEWAY, _packed(via))
    return encode.attribute(_RTA_VIA, struct.pack("=H", _FAMILIES[version]) + _packed(via))


def _by(route: Route, found: dict[int, bytes], flags: int) -> Route:
    via = _ip(found.get(_RTA_GATEWAY))
    if via is None and _RTA_VIA in found:
        via = _ip(found[_RTA_VIA][2:])
    return replace(route, via=via, onlink=bool(flags & _RTNH_F_ONLINK))


def _hops(raw: bytes) -> Iterator[tuple[int, int, int, dict[int, bytes]]]:
    """Index, weight less one, flags and attributes of each `struct rtnexthop`."""
    offset = 0
    while offset + _RTNH.size <= len(raw):
        length, flags, weight, index = _RTNH.unpack_from(raw, offset)
        if length < _RTNH.size:
            return
        yield index, weight, flags, dict(attributes(raw, offset + _RTNH.size, offset + length))
        offset += (length + 3) & ~3


def _encapsulated(route: Route, found: dict[int, bytes]) -> str | None:
    return f"the route to {route.to} encapsulates what it sends" if _RTA_ENCAP in found else None


def _metrics(raw: bytes) -> Iterator[tuple[int, int | str]]:
    for number, value in attributes(raw, 0, len(raw)):
        yield number, value.rstrip(b"\0").decode() if number == _RTAX_CC_ALGO else _u32(value)


def _metric(number: int, value: int | str) -> bytes:
    return encode.text(number, value) if isinstance(value, str) else encode.number(number, value)


def _expires(raw: bytes | None) -> int | None:
    """`struct rta_cacheinfo`: the third field is in 1/100 s, 0 for never."""
    if raw is None:
        return None
    hundredths: int = struct.unpack_from("=IIi", raw)[2]
    return max(1, hundredths // _USER_HZ) if hundredths else None


def _subnet(family: int, raw: bytes | None, length: int) -> str:
    packed = raw or bytes(4 if family == socket.AF_INET else 16)
    return str(ipaddress.ip_network((packed, length), strict=False))


def _ip(raw: bytes | None) -> str | None:
    return str(ipaddress.ip_address(raw)) if raw else None


def _packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def _u32(raw: bytes | None) -> int:
    return 0 if raw is None else int(struct.unpack_from("=I", raw)[0])
