"""Security groups on hosts: who each NIC is, the rules of its groups, and the members of groups that rules name.

Which hosts must know a slice of a group's members depends on rules, on members of other groups, and on where all these
are: of two that change this at the same moment neither sees what the other does. So who looks at a group's rules, which
is after every such change, compares which hosts were told of the slices that these rules name with which should be, and
marks those slices that differ. Whoever commits last is looked at last, and that look sees all.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from viaduct_common.errors import InUse
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.messages.l3 import L3NetworkInventory
from viaduct_common.messages.services.security_specs import SECURITY_MEMBERS, SECURITY_NIC, SECURITY_RULES
from viaduct_common.postgres.pool import Connection
from viaduct_manager.model.security_rules import slice_of
from viaduct_manager.network_services.api import Change, Desired, ServiceKey, provider_uuid
from viaduct_manager.network_services.building import Ports
from viaduct_manager.network_services.configs import NoConfig, parsed
from viaduct_manager.network_services.registry import ProviderTools
from viaduct_manager.network_services.security_group.facts import (
    members_desired,
    nic_desired,
    rules_desired,
    sliced,
)
from viaduct_manager.store import (
    clusters,
    l2_networks,
    security_facts,
    security_members,
    security_rules,
    service_marks,
)

SECURITY_GROUP = "SecurityGroup"


class SecurityGroup:
    """Built in, and registered as any other provider."""

    name: str = "SecurityGroup"
    service_types: tuple[str, ...] = (SECURITY_GROUP,)

    def __init__(self, tools: ProviderTools) -> None:
        self._uuid = provider_uuid(self.name)
        self._types = tools.l2_types
        self._ports = Ports(tools.l2_types)

    def associates(self, l2: L2NetworkInventory) -> bool:
        """Only where packets pass a bridge of the kernel: neither a macvtap device's nor Open vSwitch's do."""
        if self._types.get(l2.type).at_vm_time(l2.own_fields()):
            return True  # it is each account's own network that NICs are on, and that has a bridge
        port = self._ports.of(l2, {})
        return bool(port.bridge) and port.virtual_port is None

    async def attaching(
        self, l3: L3NetworkInventory, configs: Mapping[str, Mapping[str, Any]], connection: Connection
    ) -> Mapping[str, Mapping[str, Any]]:
        return {
            service_type: parsed(NoConfig, service_type, config).model_dump(mode="json")
            for service_type, config in configs.items()
        }

    async def detaching(self, l3: L3NetworkInventory, types: Sequence[str], connection: Connection) -> None:
        """Raises:
        InUse: NICs of the L3 network are in groups.
        """
        if members := await security_members.on_l3(connection, l3.uuid):
            raise InUse(
                f"NICs on L3 network {l3.name} are in security groups: remove them first",
                l3NetworkUuid=str(l3.uuid),
                serviceType=SECURITY_GROUP,
                nicUuids=[str(uuid) for uuid in members],
            )

    async def touched(self, change: Change, connection: Connection) -> Sequence[ServiceKey]:
        found: dict[ServiceKey, None] = {}
        if change.l3_uuids:
            nics = await security_facts.nics_of_l3(connection, change.l3_uuids, self._uuid)
            found |= dict.fromkeys(ServiceKey(SECURITY_NIC, uuid) for uuid in nics)
        if change.nic_uuids:
            found |= dict.fromkeys(await self._by_nics(connection, change.nic_uuids))
        if change.subjects:
            groups = await security_facts.groups(connection, change.subjects, SECURITY_RULES)
            found |= dict.fromkeys(ServiceKey(SECURITY_RULES, uuid) for uuid in groups)
            guarded = await security_facts.guarded(connection, change.subjects, self._uuid)
            found |= dict.fromkeys(ServiceKey(SECURITY_NIC, uuid) for uuid in guarded)
        return list(found)

    async def desired(self, keys: Sequence[ServiceKey], connection: Connection) -> Mapping[ServiceKey, Desired]:
        by_kind: dict[str, list[ServiceKey]] = {SECURITY_NIC: [], SECURITY_RULES: [], SECURITY_MEMBERS: []}
        for key in keys:
            by_kind[key.kind].append(key)
        return {
            **await self._nics(connection, by_kind[SECURITY_NIC]),
            **await self._rules(connection, by_kind[SECURITY_RULES]),
            **await self._members(connection, by_kind[SECURITY_MEMBERS]),
        }

    # ---- what a change concerns ------------------------------------------------------------------------------------

    async def _by_nics(self, connection: Connection, nic_uuids: Collection[UUID]) -> list[ServiceKey]:
        guarded = await security_facts.guarded(connection, nic_uuids, self._uuid)
        groups = {uuid for _, joined in guarded.values() for uuid in joined}
        found = [ServiceKey(SECURITY_NIC, uuid) for uuid in guarded]
        found += [ServiceKey(SECURITY_RULES, uuid) for uuid in groups]
        found += [
            ServiceKey(SECURITY_MEMBERS, group, slice_of(uuid))
            for uuid, (_, joined) in guarded.items()
            for group in joined
        ]
        hosts = {host for there, joined in guarded.values() if joined for host in there}
        named = await security_facts.named_by(connection, groups, enabled=True) if groups else set()
        if not named:
            return found
        # A VM that comes to a host is waited for: what its groups' rules name has to be there, too.
        told = await security_facts.slices_told(connection, named)
        there_are = sliced(await security_facts.members(connection, named))
        return found + [key for key in there_are if hosts - told.get(key, set())]

    # ---- what should be --------------------------------------------------------------------------------------------

    async def _nics(self, connection: Connection, keys: Sequence[ServiceKey]) -> dict[ServiceKey, Desired]:
        if not keys:
            return {}
        nics = await security_facts.nics(connection, [key.subject_uuid for key in keys], self._uuid)
        hosts = sorted({host for nic in nics.values() for host in nic.hosts})
        backends = await clusters.backends_of_hosts(connection, hosts)
        networks = await l2_networks.get_many(connection, list({nic.l2_uuid for nic in nics.values()}))

        def bridge(l2_uuid: UUID, host_uuid: UUID) -> str:
            return self._ports.of(networks[l2_uuid], backends.get(host_uuid, {})).bridge

        return {
            key: nic_desired(nic, lambda host, l2=nic.l2_uuid: bridge(l2, host))  # type: ignore[misc]
            for key in keys
            if (nic := nics.get(key.subject_uuid)) is not None
        }

    async def _rules(self, connection: Connection, keys: Sequence[ServiceKey]) -> dict[ServiceKey, Desired]:
        if not keys:
            return {}
        groups = {key.subject_uuid for key in keys}
        rules = await security_rules.of(connection, groups)
        hosts = await security_facts.hosts_of(connection, groups)
        await self._mark_slices(connection, groups)
        return {
            key: rules_desired(key.subject_uuid, rules[key.subject_uuid], hosts.get(key.subject_uuid, set()))
            for key in keys
            if key.subject_uuid in rules
        }

    async def _mark_slices(self, connection: Connection, groups: Collection[UUID]) -> None:
        """Have those slices looked at of these groups' members, and of those that their rules name, that are not on the
        hosts on which they should be."""
        concerned = {*groups, *await security_facts.named_by(connection, groups)}
        hosts = await security_facts.hosts_naming(connection, concerned)
        there_are = sliced(await security_facts.members(connection, concerned))
        told = await security_facts.slices_told(connection, concerned)
        wrong = [
            key
            for key in there_are.keys() | told.keys()
            if told.get(key, set()) != (hosts.get(key.subject_uuid, set()) if key in there_are else set())
        ]
        if wrong:
            await service_marks.mark(connection, dict.fromkeys(wrong, self.name))

    async def _members(self, connection: Connection, keys: Sequence[ServiceKey]) -> dict[ServiceKey, Desired]:
        if not keys:
            return {}
        groups = {key.subject_uuid for key in keys}
        hosts = await security_facts.hosts_naming(connection, groups)
        there_are = sliced(await security_facts.members(connection, groups))
        return {
            key: members_desired(key.subject_uuid, key.part, there_are.get(key, []), hosts.get(key.subject_uuid, set()))
            for key in keys
        }
