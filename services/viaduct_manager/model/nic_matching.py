"""Which of the NICs that are asked for a VM has already."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from uuid import UUID

from viaduct_common.errors import InvalidRequest
from viaduct_common.messages.vm import NicRequest

Address = IPv4Address | IPv6Address


@dataclass(frozen=True)
class HeldNic:
    """A NIC that a VM has, as far as matching needs it."""

    uuid: UUID
    l3_uuid: UUID
    device_index: int
    mac: str
    ips: frozenset[Address] = frozenset()


def required_ips(request: NicRequest, place: str) -> list[Address]:
    """The addresses that a NIC must get, one of each IP version at most.

    Args:
        place: where the NIC stands in the request, such as `nics.0`.

    Raises:
        InvalidRequest: both `ip` and `ips`, or two addresses of one version.
    """
    if request.ip is not None:
        if request.ips:
            raise InvalidRequest.of_field(f"{place}.ips", "give either ip or ips")
        return [request.ip]
    versions = [ip.version for ip in request.ips]
    if len(set(versions)) != len(versions):
        raise InvalidRequest.of_field(f"{place}.ips", "one address of each IP version")
    return list(request.ips)


def match(wanted: Sequence[tuple[NicRequest, Sequence[Address]]], held: Collection[HeldNic]) -> list[UUID | None]:
    """For each NIC that is asked for the one that the VM has, or None.

    Those that ask for an address or a MAC choose first, so that one which takes any does not take theirs away; else
    the order is that of the request, and of the places in the VM.

    Args:
        wanted: each NIC with the addresses it must have.
    """
    left = sorted(held, key=lambda nic: nic.device_index)
    found: list[UUID | None] = [None] * len(wanted)
    by_choosiness = sorted(range(len(wanted)), key=lambda i: -(2 * len(wanted[i][1]) + (wanted[i][0].mac is not None)))
    for i in by_choosiness:
        request, ips = wanted[i]
        for nic in left:
            if nic.l3_uuid == request.l3_network_uuid and request.mac in {None, nic.mac} and nic.ips.issuperset(ips):
                found[i] = nic.uuid
                left.remove(nic)
                break
    return found


def free_indexes(taken: Collection[int], count: int) -> list[int]:
    """The lowest places in the VM that are free, ascending."""
    indexes: list[int] = []
    index = 0
    while len(indexes) < count:
        if index not in taken:
            indexes.append(index)
        index += 1
    return indexes
