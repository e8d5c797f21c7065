"""What `viaduct status` shows: one look at everything that the manager knows of hosts, networks and work under way."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

from viaduct_common.client import ViaductClient
from viaduct_common.messages.base import Page, WireModel
from viaduct_common.messages.cluster import ClusterInventory
from viaduct_common.messages.host import HostInventory
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.messages.operation import OperationInventory
from viaduct_common.messages.realization import RealizationInventory

T = TypeVar("T")
PAGE = 1000


class Overview(WireModel):
    """Plain inventories; the tables, and the JSON of `viaduct -o json status`, are made of them."""

    clusters: list[ClusterInventory]
    hosts: list[HostInventory]
    l2_networks: list[L2NetworkInventory]
    realizations: list[RealizationInventory]
    running_operations: list[OperationInventory]

    def name_of(self, uuid: UUID | None) -> str:
        """The name of a cluster, host or network; its uuid if it is gone, nothing for none."""
        if uuid is None:
            return ""
        return self.names.get(uuid, str(uuid))

    @property
    def names(self) -> dict[UUID, str]:
        """Names by uuid, of all kinds."""
        clusters = {cluster.uuid: cluster.name for cluster in self.clusters}
        hosts = {host.uuid: host.name for host in self.hosts}
        return clusters | hosts | {network.uuid: network.name for network in self.l2_networks}


async def look(net: ViaductClient) -> Overview:
    """Ask for all of it, side by side."""
    clusters, hosts, l2_networks, realizations, operations = await asyncio.gather(
        every(net.cluster.query, sort="name"),
        every(net.host.query, sort="name"),
        every(net.l2.query, sort="name"),
        every(net.realization.query),
        every(net.operation.query, filters={"state": "running"}),
    )
    return Overview(
        clusters=clusters,
        hosts=hosts,
        l2_networks=l2_networks,
        realizations=realizations,
        running_operations=operations,
    )


async def every(query: Callable[..., Awaitable[Page[T]]], **fields: Any) -> list[T]:
    """All items of a query, page after page."""
    page = await query(limit=PAGE, **fields)
    items = list(page.items)
    while page.after is not None:
        page = await query(limit=PAGE, after=page.after, **fields)
        items += page.items
    return items
