"""What a request to allocate asks for: which ranges may serve it, and whether a required address may be had."""

from collections.abc import Iterable, Sequence
from typing import Any

from viaduct_common.errors import InvalidRequest, IpInUse, NotFound, NotInRange
from viaduct_common.messages.ipam import AllocateIp
from viaduct_ipam.model.availability import find_range, why_unavailable
from viaduct_ipam.model.ranges import Range
from viaduct_ipam.model.strategies import allocation_order


def check_allocation(request: AllocateIp) -> None:
    """Raises:
    InvalidRequest: the request contradicts itself.
    """
    if request.required_ip is None:
        return
    if request.count != 1:
        raise InvalidRequest.of_field("count", "a requiredIp is one address")
    if request.ip_version not in {None, request.required_ip.version}:
        raise InvalidRequest.of_field("ipVersion", "requiredIp is of the other IP version")
    if request.required_ip in request.excluded_ips:
        raise InvalidRequest.of_field("excludedIps", "requiredIp is among them")


def candidates(request: AllocateIp, ranges: Iterable[Range]) -> list[Range]:
    """The ranges of the L3 network that may serve the request, in the order in which they are tried.

    One request is served from one IP version. Where it names none, by version, address or range, that is IPv4 if the
    L3 network has an IPv4 range.

    Raises:
        NotFound: the L3 network has no such range.
        InvalidRequest: the range is of the other IP version.
    """
    ordered = allocation_order(ranges)
    if request.range_uuid is not None:
        ordered = [one for one in ordered if one.uuid == request.range_uuid]
        if not ordered:
            raise NotFound.of("range", request.range_uuid)
        if request.ip_version not in {None, ordered[0].bounds.version}:
            raise InvalidRequest.of_field("ipVersion", "the range is of the other IP version")
        return ordered
    versions = {one.bounds.version for one in ordered}
    asked = request.required_ip.version if request.required_ip else request.ip_version
    wanted = asked or min(versions, default=4)
    return [one for one in ordered if one.bounds.version == wanted]


def decide_required(request: AllocateIp, ranges: Sequence[Range], *, is_used: bool, is_reserved: bool) -> Range:
    """The range that hands out the required address.

    Args:
        ranges: what `candidates` gave.

    Raises:
        NotInRange: no range ever hands it out.
        IpInUse: it cannot be had now; `details.reason` is GATEWAY, USED or RESERVED.
    """
    ip = request.required_ip
    assert ip is not None
    reason = why_unavailable(ip, ranges, is_used=is_used, is_reserved=is_reserved and not request.allow_reserved)
    details: dict[str, Any] = {"ip": str(ip), "reason": reason, "l3NetworkUuid": str(request.l3_network_uuid)}
    if reason in {"NOT_IN_RANGE", "NETWORK", "BROADCAST"}:
        raise NotInRange(f"{ip} is handed out by no range ({reason})", **details)
    if reason is not None:
        raise IpInUse(f"{ip} cannot be had ({reason})", **details)
    home = find_range(ip, ranges)
    assert home is not None
    return home
