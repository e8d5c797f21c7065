"""What depends on a service of an L3 network."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from uuid import UUID

from viaduct_common.errors import InUse
from viaduct_common.messages.l3 import L3NetworkInventory
from viaduct_common.postgres.pool import Connection
from viaduct_manager.model.public_addresses import EIP, PORT_FORWARDING
from viaduct_manager.store import eips, port_forwardings

_BY_TYPE: Mapping[str, tuple[str, Callable[[Connection, UUID], Awaitable[list[UUID]]]]] = {
    EIP: ("eipUuids", eips.on_l3),
    PORT_FORWARDING: ("portForwardingUuids", port_forwardings.on_l3),
}


async def refuse_in_use(connection: Connection, l3: L3NetworkInventory, types: Collection[str]) -> None:
    """Raises:
    InUse: NICs on the L3 network have EIPs or forwarded ports; `details` name them.
    """
    for service_type in sorted(set(types) & _BY_TYPE.keys()):
        name, on_l3 = _BY_TYPE[service_type]
        if found := await on_l3(connection, l3.uuid):
            raise InUse(
                f"{service_type} of L3 network {l3.name} is in use: detach these first",
                l3NetworkUuid=str(l3.uuid),
                serviceType=service_type,
                **{name: [str(uuid) for uuid in found]},
            )
