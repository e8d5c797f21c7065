"""Providers and L2 networks: who is known, and whose services are to be had where."""

from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.postgres.pool import Connection
from viaduct_manager.network_services.api import provider_uuid
from viaduct_manager.network_services.registry import NetworkServices
from viaduct_manager.store import l2_networks, l3_services


async def register(connection: Connection, services: NetworkServices) -> None:
    """Have all providers of this process known. One that is new is asked about the L2 networks that there are, as it
    will be about those to come."""
    await l3_services.lock_registration(connection)
    for provider in services.all:
        uuid = provider_uuid(provider.name)
        if await l3_services.register(connection, uuid, provider.name, provider.service_types):
            there = await l2_networks.get_many(connection, await l3_services.hold_l2_networks(connection))
            good = [l2_uuid for l2_uuid, l2 in there.items() if provider.associates(l2)]
            await l3_services.associate(connection, [(l2_uuid, uuid) for l2_uuid in good])


async def associate(connection: Connection, services: NetworkServices, l2: L2NetworkInventory) -> None:
    """An L2 network was created."""
    good = [provider for provider in services.all if provider.associates(l2)]
    if good:
        await l3_services.associate(connection, [(l2.uuid, provider_uuid(provider.name)) for provider in good])
