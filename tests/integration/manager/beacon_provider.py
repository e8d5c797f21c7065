"""A provider for tests, installed beside a real manager: a beacon on every host that has NICs of an L3 network, and at
wish a lighthouse with an address of its own on one of them."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from viaduct_common.errors import InUse, InvalidRequest, PreconditionFailed
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.messages.l3 import L3NetworkInventory
from viaduct_common.postgres.pool import Connection
from viaduct_manager.network_services.api import Change, Desired, ServiceKey
from viaduct_manager.network_services.registry import ProviderTools

BEACON, LIGHTHOUSE = "beacon", "lighthouse"
KNOWN = {"text": str, "locked": bool, "lighthouse": bool}
_L3S = """
    SELECT uuid FROM l3_network WHERE uuid = ANY($1::uuid[])
    UNION SELECT l3_uuid FROM nic WHERE uuid = ANY($2::uuid[])
    UNION SELECT l3_uuid FROM nic WHERE host_uuid = ANY($3::uuid[]) OR migrating_to_host_uuid = ANY($3::uuid[])
    UNION SELECT subject_uuid FROM service JOIN service_on_host ON service_uuid = uuid WHERE host_uuid = ANY($3::uuid[])
"""
_NICS = """
    SELECT nic.l3_uuid, nic.l2_uuid, nic.uuid, h.host_uuid, host.state = 'connected' AS connected
    FROM nic CROSS JOIN LATERAL (VALUES (nic.host_uuid), (nic.migrating_to_host_uuid)) AS h(host_uuid)
    JOIN host ON host.uuid = h.host_uuid
    WHERE nic.l3_uuid = ANY($1::uuid[]) AND nic.state IN ('preparing', 'ready')
      AND EXISTS (SELECT FROM nic_ip WHERE nic_uuid = nic.uuid)
    ORDER BY nic.uuid
"""
_CONFIG = """
    SELECT l3_uuid, config FROM l3_service WHERE l3_uuid = ANY($1::uuid[]) AND service_type = 'Beacon'
      AND provider_uuid = (SELECT uuid FROM service_provider WHERE name = 'Beacons')
"""


class Beacons:
    name: str = "Beacons"
    service_types: tuple[str, ...] = ("Beacon", "Echo")

    def __init__(self, tools: ProviderTools) -> None:
        self._addresses = tools.addresses

    def associates(self, l2: L2NetworkInventory) -> bool:
        return l2.name != "dark"

    async def attaching(
        self, l3: L3NetworkInventory, configs: Mapping[str, Mapping[str, Any]], connection: Connection
    ) -> Mapping[str, Mapping[str, Any]]:
        for service_type, config in configs.items():
            for key, value in config.items():
                if not isinstance(value, KNOWN.get(key, ())):
                    raise InvalidRequest.of_field(f"{service_type}.{key}", "no such option, or of the wrong kind")
        return {service_type: {"text": "", **config} for service_type, config in configs.items()}

    async def detaching(self, l3: L3NetworkInventory, types: Sequence[str], connection: Connection) -> None:
        for one in l3.services:
            if one.service_type in types and one.config.get("locked"):
                raise InUse(f"{one.service_type} is locked", dependants=["lock"])

    async def touched(self, change: Change, connection: Connection) -> Sequence[ServiceKey]:
        rows = await connection.fetch(_L3S, list(change.l3_uuids), list(change.nic_uuids), list(change.host_uuids))
        return [ServiceKey(kind, row["uuid"]) for row in rows for kind in (BEACON, LIGHTHOUSE)]

    async def desired(self, keys: Sequence[ServiceKey], connection: Connection) -> Mapping[ServiceKey, Desired]:
        l3s = list({key.subject_uuid for key in keys})
        configs = {row["l3_uuid"]: row["config"] for row in await connection.fetch(_CONFIG, l3s)}
        nics = [row for row in await connection.fetch(_NICS, l3s) if row["l3_uuid"] in configs]
        found = {}
        for key in keys:
            rows = [row for row in nics if row["l3_uuid"] == key.subject_uuid]
            config = configs.get(key.subject_uuid, {})
            if config.get("text") == "boom":
                raise ValueError("a mistake of the provider's")
            if not rows:
                continue
            if key.kind == BEACON:
                found[key] = Desired(self._beacons(rows, config))
            elif config.get("lighthouse"):
                found[key] = await self._lighthouse(key, rows, connection)
        return found

    def _beacons(self, rows: list[Any], config: Mapping[str, Any]) -> dict[UUID, Mapping[str, Any]]:
        hosts = {row["host_uuid"] for row in rows}
        return {
            host: {
                "text": config["text"],
                "nics": [str(row["uuid"]) for row in rows if row["host_uuid"] == host],
                "port": {"l2NetworkUuid": str(rows[0]["l2_uuid"])},
            }
            for host in hosts
        }

    async def _lighthouse(self, key: ServiceKey, rows: list[Any], connection: Connection) -> Desired:
        fit = sorted({row["host_uuid"] for row in rows if row["connected"]})
        if not fit:
            return Desired(problem=PreconditionFailed("no host with a NIC is connected"))
        [address] = await self._addresses.ensure(
            connection, key, purpose="lamp", l3_uuid=key.subject_uuid, versions=[4]
        )
        return Desired({fit[0]: {"ip": str(address.ip)}})


class Rivals:
    """Offers the same, and something else that is to be had nowhere."""

    name: str = "Rivals"
    service_types: tuple[str, ...] = ("Beacon", "Smoke")

    def __init__(self, tools: ProviderTools) -> None:
        pass

    def associates(self, l2: L2NetworkInventory) -> bool:
        return l2.name != "net" or l2.mtu > 1500

    async def attaching(
        self, l3: L3NetworkInventory, configs: Mapping[str, Mapping[str, Any]], connection: Connection
    ) -> Mapping[str, Mapping[str, Any]]:
        return configs

    async def detaching(self, l3: L3NetworkInventory, types: Sequence[str], connection: Connection) -> None:
        pass

    async def touched(self, change: Change, connection: Connection) -> Sequence[ServiceKey]:
        return []

    async def desired(self, keys: Sequence[ServiceKey], connection: Connection) -> Mapping[ServiceKey, Desired]:
        return {}
