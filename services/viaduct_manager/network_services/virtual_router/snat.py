"""The address behind which the NICs of an L3 network hide: a VIP of the provider's own, made with the attach.

The L3 network is locked by whoever attaches and detaches, and each change of what is attached gives it a new revision.
The VIP's uuid follows from that: who does it again after a crash finds what IPAM gave for it.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid5

from viaduct_common.errors import InvalidRequest
from viaduct_common.messages.base import StrictModel
from viaduct_common.messages.fields import IpAddress
from viaduct_common.messages.l3 import L3NetworkInventory
from viaduct_common.messages.services.vips import VipInventory
from viaduct_common.postgres.pool import Connection
from viaduct_manager import announce
from viaduct_manager.model.public_addresses import SNAT
from viaduct_manager.network_services.configs import parsed
from viaduct_manager.store import public_networks, vips
from viaduct_manager.vip_ipam import VipIpam

MAX_NAME = 255


class SnatConfig(StrictModel):
    """Neither: an address of the one public L3 network of the zone."""

    public_l3_network_uuid: UUID | None = None
    public_ip: IpAddress | None = None


class SnatAddresses:
    def __init__(self, ipam: VipIpam) -> None:
        self._ipam = ipam

    async def ensure(self, connection: Connection, l3: L3NetworkInventory, config: Mapping[str, Any]) -> dict[str, Any]:
        """The address that is asked for, or that it has if it may have any; another goes back.

        Returns:
            the config as it is to be kept.

        Raises:
            InvalidRequest: it names none, and there is not exactly one to choose; or the network's own.
            PreconditionFailed: the network is not public, or not enabled. ViaductError: IPAM refuses.
        """
        asked = parsed(SnatConfig, SNAT, config)
        former = await vips.of_service(connection, l3.uuid, SNAT)
        if former is not None and _suits(former, asked):
            return _kept(former)
        public_uuid = asked.public_l3_network_uuid or await self._only_one(connection, l3)
        if public_uuid == l3.uuid:
            raise InvalidRequest.of_field(f"{SNAT}.publicL3NetworkUuid", "is the L3 network itself")
        field = f"{SNAT}.publicL3NetworkUuid"
        public = await public_networks.require_public(connection, public_uuid, field=field)
        if public.zone_uuid != l3.zone_uuid:
            raise InvalidRequest.of_field(field, f"L3 network {public.name} is in another zone")
        if former is not None:
            await self._forget(connection, former)
        uuid = uuid5(l3.uuid, f"{SNAT} {l3.created_at.isoformat()} {l3.revision} {public_uuid} {asked.public_ip}")
        given = await self._ipam.allocate(uuid, public_uuid, ip=asked.public_ip)
        vip = await vips.create(
            connection,
            uuid,
            given,
            name=f"{SNAT} of {l3.name}"[:MAX_NAME],
            used_for=SNAT,
            serves_l3_uuid=l3.uuid,
        )
        await announce.event(connection, "vip.created", vip)
        return _kept(vip)

    async def give_up(self, connection: Connection, l3: L3NetworkInventory) -> None:
        """SNAT is to be served no longer."""
        former = await vips.of_service(connection, l3.uuid, SNAT)
        if former is not None:
            await self._forget(connection, former)

    async def _only_one(self, connection: Connection, l3: L3NetworkInventory) -> UUID:
        found = [uuid for uuid in await public_networks.in_zone(connection, l3.zone_uuid) if uuid != l3.uuid]
        if len(found) != 1:
            raise InvalidRequest.of_field(
                f"{SNAT}.publicL3NetworkUuid",
                f"is wanted: the zone has {len(found)} public L3 networks" if found else "the zone has none",
                l3NetworkUuids=[str(uuid) for uuid in found],
            )
        return found[0]

    async def _forget(self, connection: Connection, vip: VipInventory) -> None:
        await vips.delete(connection, vip.uuid)
        await announce.event(connection, "vip.deleted", vip)


def _suits(vip: VipInventory, asked: SnatConfig) -> bool:
    return asked.public_l3_network_uuid in {None, vip.l3_network_uuid} and asked.public_ip in {None, vip.ip}


def _kept(vip: VipInventory) -> dict[str, Any]:
    kept: dict[str, Any] = SnatConfig(public_l3_network_uuid=vip.l3_network_uuid, public_ip=vip.ip).model_dump(
        mode="json"
    )
    return kept
