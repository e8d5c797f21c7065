"""The rules between the ranges of one L3 network; that ranges never overlap on an L2 network, the database keeps."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from uuid import UUID

from viaduct_common.errors import InvalidRequest
from viaduct_common.messages.ipam import CreateRange
from viaduct_ipam.model.intervals import IntervalSet
from viaduct_ipam.model.ranges import Bounds, Range


def beside(bounds: Sequence[Bounds], siblings: Iterable[Bounds], request: CreateRange) -> tuple[Bounds, ...]:
    """`bounds` as they are once they stand beside the other ranges of their L3 network, which they do not overlap.

    Normal ranges of one IP version share subnet, gateway and address mode. One that is given by its ends and without
    a gateway takes that of its siblings.

    Args:
        bounds: what the request asks for, see `bounds_of`.

    Raises:
        InvalidRequest: they do not go together.
    """
    siblings = [one for one in siblings if one.version == bounds[0].version]
    normal = [one for one in siblings if one.type == "normal"]
    if normal and bounds[0].type == "normal":
        if request.gateway is None and request.network_cidr is None:
            bounds = [replace(one, gateway=normal[0].gateway) for one in bounds]
        _check_shared(bounds[0], normal[0], request)
    for one in bounds:
        _check_gateways(one, siblings, _subject(request))
        if not one.assignable.parts:
            raise InvalidRequest.of_field(_subject(request), "no address is left beside the gateway")
    if bounds[0].address_mode in {"slaac", "statelessDhcp"}:
        _check_whole(bounds, normal)
    return tuple(bounds)


def pools_left_alone(range_: Range, siblings: Iterable[Range]) -> list[UUID]:
    """The address pools that would be without a normal range of their IP version if `range_` were gone.

    Their addresses are reached by the gateway that the normal ranges name, and would be handed out unasked.

    Args:
        siblings: the ranges of the L3 network; `range_` may be among them.
    """
    if range_.bounds.type != "normal":
        return []
    others = [one for one in siblings if one.uuid != range_.uuid and one.bounds.version == range_.bounds.version]
    if any(one.bounds.type == "normal" for one in others):
        return []
    return [one.uuid for one in others]


def _subject(request: CreateRange) -> str:
    """The field that says where the range lies."""
    return "startIp" if request.network_cidr is None else "networkCidr"


def _check_shared(new: Bounds, normal: Bounds, request: CreateRange) -> None:
    if new.network != normal.network:
        field = _subject(request)
        if field == "startIp" and new.prefix_length != normal.prefix_length and new.first in normal.network:
            field = "prefixLength" if request.netmask is None else "netmask"
        raise InvalidRequest.of_field(
            field, f"the normal ranges of this L3 network lie in {normal.network}", networkCidr=str(normal.network)
        )
    if new.gateway != normal.gateway:
        gateway = str(normal.gateway) if normal.gateway else None
        raise InvalidRequest.of_field(
            "gateway", f"the normal ranges of this L3 network share the gateway {gateway}", gateway=gateway
        )
    if new.address_mode != normal.address_mode:
        mode = normal.address_mode
        raise InvalidRequest.of_field(
            "addressMode", f"the normal IPv6 ranges of this L3 network are {mode}", addressMode=mode
        )


def _check_gateways(new: Bounds, siblings: Iterable[Bounds], subject: str) -> None:
    """A gateway of one range must not be handed out by another of the same L3 network."""
    for other in siblings:
        if new.gateway is not None and int(new.gateway) in other.assignable:
            raise InvalidRequest.of_field("gateway", f"{new.gateway} is handed out by another range of the L3 network")
        if other.gateway is not None and int(other.gateway) in new.assignable:
            raise InvalidRequest.of_field(subject, f"the gateway {other.gateway} of another range lies in it")


def _check_whole(bounds: Sequence[Bounds], normal: Iterable[Bounds]) -> None:
    """A guest's own address may be any of the subnet: what it makes must always lie in a range.

    The two addresses that a CIDR leaves out, subnet-router anycast and gateway, are nobody's.
    """
    network = bounds[0].network
    covered = [(int(one.first), int(one.last)) for one in (*bounds, *normal)]
    if bounds[0].gateway is not None:
        covered.append((int(bounds[0].gateway), int(bounds[0].gateway)))
    whole = IntervalSet.of([(int(network.network_address) + 1, int(network.broadcast_address))])
    for first, _ in whole.minus(IntervalSet.of(covered)).parts:
        raise InvalidRequest.of_field(
            "startIp" if first < int(bounds[0].first) else "endIp",
            f"{bounds[0].address_mode} wants all of {network}: guests make their addresses themselves",
        )
