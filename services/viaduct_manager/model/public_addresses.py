"""Who may have which public address: the rules of EIPs and of port forwardings.

Those of them that two requests could break at the same moment are the database's as well; here they have their words.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from uuid import UUID

from viaduct_common.errors import Conflict, InvalidRequest, PreconditionFailed, ServiceConflict

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network

SNAT, EIP, PORT_FORWARDING = "SNAT", "EIP", "PortForwarding"
# Providers that serve EIPs where the NICs are, and not on a gateway host.
ON_NICS_HOSTS = frozenset({"Flat"})


@dataclass(frozen=True)
class PublicVip:
    """A VIP, and the L2 network on which its L3 network lies."""

    uuid: UUID
    l3_uuid: UUID
    l2_uuid: UUID
    ip: Address
    used_for: str | None
    system: bool


@dataclass(frozen=True)
class TargetNic:
    """A NIC that is to have a public address.

    Attributes:
        ips: in order; the first of an IP version is the usual choice.
        providers: who serves what on its L3 network, by service type.
        siblings: the L3 networks of its VM's other NICs, by NIC.
        cluster_l2s: the L2 networks that its host's cluster has.
        eips: the EIPs that it has, by IP version.
        guarded: its port forwardings with an `allowed_cidr`.
    """

    uuid: UUID
    l3_uuid: UUID
    ips: tuple[Interface, ...]
    providers: Mapping[str, str]
    siblings: Mapping[UUID, UUID]
    cluster_l2s: Collection[UUID]
    eips: Mapping[int, UUID]
    guarded: Collection[UUID]


def require_unused(vip: PublicVip, service_type: str, *, shared: bool) -> None:
    """Args:
        shared: several of this service type may use one VIP.

    Raises:
        ServiceConflict: another service uses it, or what is one of a kind does.
    """
    if vip.used_for is None or (shared and vip.used_for == service_type and not vip.system):
        return
    raise ServiceConflict(
        f"VIP {vip.ip} is used for {vip.used_for}", field="vipUuid", vipUuid=str(vip.uuid), usedFor=vip.used_for
    )


def target_address(vip: PublicVip, nic: TargetNic, service_type: str, asked: Address | None) -> Address:
    """The address of the NIC that the VIP is to lead to, by what EIPs and port forwardings have in common.

    Args:
        asked: one of its addresses, or None for the first of the VIP's IP version.

    Raises:
        InvalidRequest: the VIP can never lead there. PreconditionFailed: something is not there yet.
    """
    if nic.l3_uuid == vip.l3_uuid:
        raise InvalidRequest.of_field(
            "vipUuid", "the VIP is of the NIC's own L3 network", l3NetworkUuid=str(vip.l3_uuid)
        )
    _require_service(nic, service_type)
    near = [uuid for uuid, l3_uuid in nic.siblings.items() if l3_uuid == vip.l3_uuid]
    if near:
        raise PreconditionFailed(
            "the VM has a NIC on the VIP's L3 network: its answers would not come back this way",
            field="nicUuid",
            nicUuids=[str(uuid) for uuid in near],
        )
    address = _choose(vip, nic, asked)
    for own in nic.ips:
        if own.version == vip.ip.version and vip.ip in own.network:
            raise InvalidRequest.of_field("vipUuid", f"{vip.ip} lies within the NIC's own subnet {own.network}")
    return address


def require_eip_fits(vip: PublicVip, nic: TargetNic, *, on_its_host: bool) -> None:
    """Args:
        on_its_host: the provider serves it where the NIC is, and not on a gateway host.

    Raises:
        Conflict: the NIC has an EIP of this IP version, or forwarded ports for some only.
        PreconditionFailed: the NIC's host has no way to the public network.
    """
    if (other := nic.eips.get(vip.ip.version)) is not None:
        raise second_eip(vip.ip.version, other)
    if nic.guarded:
        raise Conflict(
            "the NIC has port forwardings with allowedCidr: an EIP would let everybody in",
            field="nicUuid",
            portForwardingUuids=sorted(str(uuid) for uuid in nic.guarded),
        )
    if on_its_host and vip.l2_uuid not in nic.cluster_l2s:
        raise PreconditionFailed(
            "the cluster of the NIC's host does not have the VIP's L2 network",
            field="nicUuid",
            l2NetworkUuids=[str(vip.l2_uuid)],
        )


def second_eip(version: int, other: UUID | None) -> Conflict:
    """`other` is the one that the NIC has, if that is known."""
    details = {} if other is None else {"eipUuid": str(other)}
    return Conflict(f"the NIC has an EIP of IPv{version}: detach that first", field="nicUuid", **details)


def require_forwarding_fits(nic: TargetNic, allowed_cidr: Network | None) -> None:
    """Raises:
    Conflict: not everybody is to be let in, but the NIC has an EIP.
    """
    if allowed_cidr is not None and nic.eips:
        raise Conflict(
            "the NIC has an EIP: that lets everybody in, whatever allowedCidr says",
            field="nicUuid",
            eipUuids=sorted(str(uuid) for uuid in nic.eips.values()),
        )


@dataclass(frozen=True)
class ForwardedPorts:
    """As many private ports as public ones."""

    vip_start: int
    vip_end: int
    private_start: int

    @property
    def private_end(self) -> int:
        return self.private_start + self.vip_end - self.vip_start


def forwarded_ports(
    vip_start: int, vip_end: int | None, private_start: int | None, private_end: int | None
) -> ForwardedPorts:
    """An end defaults to its start, private ports to the VIP's.

    Raises:
        InvalidRequest: a range ends before it starts, or the two are of unequal size.
    """
    last = vip_start if vip_end is None else vip_end
    if last < vip_start:
        raise InvalidRequest.of_field("vipPortEnd", f"{last} comes before {vip_start}")
    if private_start is None:
        private_start, private_last = vip_start, last if private_end is None else private_end
    else:
        private_last = private_start if private_end is None else private_end
    if private_last < private_start:
        raise InvalidRequest.of_field("privatePortEnd", f"{private_last} comes before {private_start}")
    if private_last - private_start != last - vip_start:
        raise InvalidRequest.of_field(
            "privatePortEnd",
            f"{last - vip_start + 1} public ports, but {private_last - private_start + 1} private ones",
        )
    return ForwardedPorts(vip_start, last, private_start)


def require_cidr_of(vip: PublicVip, allowed_cidr: Network | None) -> None:
    """Raises:
    InvalidRequest: it is of another IP version than the VIP.
    """
    if allowed_cidr is not None and allowed_cidr.version != vip.ip.version:
        raise InvalidRequest.of_field("allowedCidr", f"the VIP is an address of IPv{vip.ip.version}")


def _require_service(nic: TargetNic, service_type: str) -> None:
    if service_type not in nic.providers:
        raise PreconditionFailed(
            f"the NIC's L3 network has no {service_type} service: attach a provider of it",
            field="nicUuid",
            l3NetworkUuid=str(nic.l3_uuid),
        )


def _choose(vip: PublicVip, nic: TargetNic, asked: Address | None) -> Address:
    if asked is not None:
        if asked not in {own.ip for own in nic.ips}:
            raise InvalidRequest.of_field(
                "privateIp", f"{asked} is not the NIC's", ips=[str(own.ip) for own in nic.ips]
            )
        if asked.version != vip.ip.version:
            raise _other_version("privateIp", vip)
        return asked
    for own in nic.ips:
        if own.version == vip.ip.version:
            return own.ip
    raise _other_version("nicUuid", vip)


def _other_version(field: str, vip: PublicVip) -> InvalidRequest:
    return InvalidRequest.of_field(field, f"the VIP is an address of IPv{vip.ip.version}, and this is none")
