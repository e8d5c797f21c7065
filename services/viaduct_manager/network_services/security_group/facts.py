"""What the specs of security groups are built of, as plain values, and how. Pure."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from uuid import UUID

from viaduct_common.messages.services.security_groups import DefaultPolicy
from viaduct_common.messages.services.security_specs import (
    SECURITY_MEMBERS,
    SecurityMembersSpec,
    SecurityNicSpec,
    SecurityRulesSpec,
)
from viaduct_manager.model.security_rules import StoredRule, expand, slice_of
from viaduct_manager.network_services.api import Desired, ServiceKey


@dataclass(frozen=True)
class GuardedNic:
    """A NIC of an L3 network with the service; `hosts` are its own, and the one that it is being moved to."""

    uuid: UUID
    l2_uuid: UUID
    hosts: tuple[UUID, ...]
    device_name: str
    mac: str
    ips: tuple[IPv4Address | IPv6Address, ...]
    groups: tuple[UUID, ...]
    ingress: DefaultPolicy
    egress: DefaultPolicy


def nic_desired(nic: GuardedNic, bridge_on: Callable[[UUID], str]) -> Desired:
    """Args:
    bridge_on: where it is plugged in, by host.
    """
    return Desired(
        {
            host_uuid: SecurityNicSpec(
                nic_uuid=nic.uuid,
                device_name=nic.device_name,
                bridge=bridge_on(host_uuid),
                mac=nic.mac,
                ips=list(nic.ips),
                groups=list(nic.groups),
                ingress_policy=nic.ingress,
                egress_policy=nic.egress,
            ).model_dump(mode="json")
            for host_uuid in nic.hosts
        }
    )


def rules_desired(group_uuid: UUID, rules: Iterable[StoredRule], hosts: Collection[UUID]) -> Desired:
    spec = SecurityRulesSpec(group_uuid=group_uuid, rules=expand(rules)).model_dump(mode="json")
    return Desired(dict.fromkeys(hosts, spec))


def members_desired(
    group_uuid: UUID, part: int, ips: Collection[IPv4Address | IPv6Address], hosts: Collection[UUID]
) -> Desired:
    """Nowhere if the slice is empty."""
    if not ips:
        return Desired()
    ordered = sorted(set(ips), key=lambda ip: (ip.version, int(ip)))
    spec = SecurityMembersSpec(group_uuid=group_uuid, slice=part, ips=ordered).model_dump(mode="json")
    return Desired(dict.fromkeys(hosts, spec))


def sliced(
    members: Iterable[tuple[UUID, UUID, Collection[IPv4Address | IPv6Address]]],
) -> Mapping[ServiceKey, list[IPv4Address | IPv6Address]]:
    """(Group, NIC, its addresses) by the instance that has to tell of them."""
    found: dict[ServiceKey, list[Any]] = defaultdict(list)
    for group_uuid, nic_uuid, ips in members:
        found[ServiceKey(SECURITY_MEMBERS, group_uuid, slice_of(nic_uuid))].extend(ips)
    return found
