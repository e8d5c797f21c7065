"""`nic.query`, `placement.hosts`: nothing here changes anything."""

from viaduct_common.bus import RequestContext
from viaduct_common.errors import NotFound
from viaduct_common.messages.base import Page
from viaduct_common.messages.vm import FindPlacement, NicInventory, Placement, QueryNics
from viaduct_common.postgres.pool import Connection
from viaduct_manager.nic_inventories import NicInventories
from viaduct_manager.store import l3_networks, nics, vm_networks


class NicHandlers:
    def __init__(self, inventories: NicInventories) -> None:
        self._inventories = inventories

    async def query(self, request: QueryNics, connection: Connection, context: RequestContext) -> Page[NicInventory]:
        found, after = await nics.query(connection, request)
        return Page(items=self._inventories.of_all(found), after=after)


async def find_placement(request: FindPlacement, connection: Connection, context: RequestContext) -> Placement:
    """Raises:
    NotFound: one of the L3 networks does not exist.
    """
    known = await l3_networks.l2_networks_of(connection, request.l3_network_uuids)
    for index, uuid in enumerate(request.l3_network_uuids):
        if uuid not in known:
            missing = NotFound.of(l3_networks.KIND, uuid)
            missing.details["field"] = f"l3NetworkUuids.{index}"
            raise missing
    return await vm_networks.placement(connection, request.l3_network_uuids)
