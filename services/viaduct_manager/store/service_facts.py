"""What providers of services on L3 networks build their specs of, as it is in Postgres."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from uuid import UUID

from viaduct_common.messages.services.specs import EipRule, HostRoute, PortForwardingRule
from viaduct_common.postgres.pool import Connection
from viaduct_manager.network_services.facts import (
    AddressInNetwork,
    Eip,
    Forwarding,
    NicOnNetwork,
    PublicAddress,
    ServedNetwork,
    Snat,
)
from viaduct_manager.store import l2_networks

_NETWORKS = """
    SELECT uuid, name, zone_uuid, l2_uuid, mtu, dns, dns_domain, host_routes,
           ARRAY(SELECT service_type FROM l3_service
                 WHERE l3_service.l3_uuid = l3_network.uuid AND provider_uuid = $2) AS types
    FROM l3_network WHERE uuid = ANY($1::uuid[])
"""
_NICS = """
    SELECT uuid, l3_uuid, host_uuid, migrating_to_host_uuid, mac::text AS mac, host_name, is_default, ips
    FROM nic CROSS JOIN LATERAL (
        SELECT jsonb_agg(jsonb_build_object('ip', host(ip), 'prefixLength', prefix_length, 'gateway', host(gateway))
                         ORDER BY family(ip), ip) AS ips
        FROM nic_ip WHERE nic_uuid = nic.uuid) AS has
    WHERE l3_uuid = ANY($1::uuid[]) AND state IN ('preparing', 'ready') AND ips IS NOT NULL
    ORDER BY uuid
"""
_VIP = "vip.l3_uuid AS vip_l3_uuid, vip.ip AS vip_ip, vip.prefix_length, vip.gateway"
_SNATS = f"""
    SELECT vip.serves_l3_uuid AS l3_uuid, {_VIP} FROM vip
    WHERE serves_l3_uuid = ANY($1::uuid[]) AND used_for = 'SNAT' AND enabled
"""
_COUNTS = "nic.l3_uuid = ANY($1::uuid[]) AND nic.state IN ('preparing', 'ready') AND vip.enabled"
_EIPS = f"""
    SELECT eip.uuid, nic.l3_uuid, eip.nic_uuid, eip.private_ip, {_VIP}
    FROM nic JOIN eip ON eip.nic_uuid = nic.uuid JOIN vip ON vip.uuid = eip.vip_uuid
    WHERE {_COUNTS} AND eip.enabled
"""
_FORWARDINGS = f"""
    SELECT rule.uuid, nic.l3_uuid, rule.private_ip, rule.protocol, lower(rule.vip_ports) AS first,
           upper(rule.vip_ports) - 1 AS last, rule.private_port_start, rule.allowed_cidr, {_VIP}
    FROM nic JOIN port_forwarding AS rule ON rule.nic_uuid = nic.uuid JOIN vip ON vip.uuid = rule.vip_uuid
    WHERE {_COUNTS} AND rule.enabled
"""


@dataclass(frozen=True)
class Facts:
    """All by the L3 network that is served; `networks` has the public ones, too."""

    networks: dict[UUID, ServedNetwork]
    nics: dict[UUID, list[NicOnNetwork]]
    snats: dict[UUID, list[Snat]]
    eips: dict[UUID, list[Eip]]
    forwardings: dict[UUID, list[Forwarding]]


async def load(connection: Connection, l3_uuids: Collection[UUID], provider_uuid: UUID) -> Facts:
    """Those of L3 networks; `ServedNetwork.types` is what this provider serves there."""
    asked = list(l3_uuids)
    nics = [_nic(row) for row in await connection.fetch(_NICS, asked)]
    snats = [Snat(row["l3_uuid"], _public(row)) for row in await connection.fetch(_SNATS, asked)]
    eips = [_eip(row) for row in await connection.fetch(_EIPS, asked)]
    forwardings = [_forwarding(row) for row in await connection.fetch(_FORWARDINGS, asked)]
    used: list[Snat | Eip | Forwarding] = [*snats, *eips, *forwardings]
    public = {one.public.l3_uuid for one in used}
    found = Facts(
        await _networks(connection, {*asked, *public}, provider_uuid),
        defaultdict(list),
        defaultdict(list),
        defaultdict(list),
        defaultdict(list),
    )
    for nic in nics:
        found.nics[nic.l3_uuid].append(nic)
    for snat in snats:
        found.snats[snat.l3_uuid].append(snat)
    for eip in eips:
        found.eips[eip.l3_uuid].append(eip)
    for forwarding in forwardings:
        found.forwardings[forwarding.l3_uuid].append(forwarding)
    return found


async def _networks(
    connection: Connection, l3_uuids: Collection[UUID], provider_uuid: UUID
) -> dict[UUID, ServedNetwork]:
    rows = await connection.fetch(_NETWORKS, list(l3_uuids), provider_uuid)
    l2s = await l2_networks.get_many(connection, list({row["l2_uuid"] for row in rows}))
    return {
        row["uuid"]: ServedNetwork(
            uuid=row["uuid"],
            name=row["name"],
            zone_uuid=row["zone_uuid"],
            l2=l2s[row["l2_uuid"]],
            own_mtu=row["mtu"],
            dns=tuple(map(ip_address, row["dns"])),
            domain=row["dns_domain"],
            routes=tuple(HostRoute.model_validate(one) for one in row["host_routes"]),
            types=frozenset(row["types"]),
        )
        for row in rows
    }


def _nic(row: Any) -> NicOnNetwork:
    return NicOnNetwork(
        uuid=row["uuid"],
        l3_uuid=row["l3_uuid"],
        host_uuid=row["host_uuid"],
        migrating_to_host_uuid=row["migrating_to_host_uuid"],
        mac=row["mac"],
        host_name=row["host_name"],
        default=row["is_default"],
        ips=tuple(
            AddressInNetwork(
                ip_address(one["ip"]),
                one["prefixLength"],
                None if one["gateway"] is None else ip_address(one["gateway"]),
            )
            for one in row["ips"]
        ),
    )


def _public(row: Any) -> PublicAddress:
    return PublicAddress(row["vip_l3_uuid"], AddressInNetwork(row["vip_ip"], row["prefix_length"], row["gateway"]))


def _eip(row: Any) -> Eip:
    rule = EipRule(eip_uuid=row["uuid"], public_ip=row["vip_ip"], private_ip=row["private_ip"])
    return Eip(row["l3_uuid"], row["nic_uuid"], rule, _public(row))


def _forwarding(row: Any) -> Forwarding:
    rule = PortForwardingRule(
        rule_uuid=row["uuid"],
        protocol=row["protocol"],
        public_ip=row["vip_ip"],
        public_start=row["first"],
        public_end=row["last"],
        private_ip=row["private_ip"],
        private_start=row["private_port_start"],
        allowed_cidr=row["allowed_cidr"],
    )
    return Forwarding(row["l3_uuid"], rule, _public(row))
