"""How full L3 networks are, for Prometheus: read from the counters now and then, not at each scrape."""

import asyncio
from collections.abc import Iterator, Mapping
from uuid import UUID

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from viaduct_common.bus import StoreUnavailable
from viaduct_common.messages.ipam import IpCapacity
from viaduct_common.postgres.pool import Pool, transaction
from viaduct_ipam.model.capacity import Usage, capacity_of
from viaduct_ipam.store.capacity import usages_of_l3
from viaduct_ipam.store.fullest import fullest_l3

log = structlog.get_logger()

EVERY_SECONDS = 15.0
CHUNK = 50  # L3 networks at a time: requests are served in between
STATES = ("total", "used", "cooling", "reserved", "available")


class NetworkGauges(Collector):
    """`viaduct_ipam_network_addresses{l3_network_uuid,ip_version,state}` of the fullest L3 networks.

    Every IPAM process tells of the same ones: take the maximum, not the sum.

    Args:
        networks: so many at most; 0 tells of none.
    """

    def __init__(self, pool: Pool, networks: int) -> None:
        self._pool = pool
        self._networks = networks
        self._capacities: Mapping[tuple[UUID, int], IpCapacity] = {}  # replaced as a whole: a scrape is in a thread

    async def run(self) -> None:
        """Refresh until cancelled."""
        while True:
            try:
                await self.refresh()
            except StoreUnavailable as error:
                log.warning("gauges_postponed", reason=str(error))
            await asyncio.sleep(EVERY_SECONDS)

    async def refresh(self) -> None:
        """Raises:
        StoreUnavailable: the database is away; what was known stays.
        """
        async with transaction(self._pool) as connection:
            fullest = await fullest_l3(connection, self._networks)
        capacities: dict[tuple[UUID, int], IpCapacity] = {}
        for index in range(0, len(fullest), CHUNK):
            async with transaction(self._pool) as connection:
                usages = await usages_of_l3(connection, fullest[index : index + CHUNK])
            parts: dict[tuple[UUID, int], list[Usage]] = {}
            for usage in usages:
                parts.setdefault((usage.range.l3_network_uuid, usage.range.bounds.version), []).append(usage)
            capacities |= {key: capacity_of(mine) for key, mine in parts.items()}
        self._capacities = capacities

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "viaduct_ipam_network_addresses",
            "Addresses of the fullest L3 networks, by IP version and state",
            labels=["l3_network_uuid", "ip_version", "state"],
        )
        for (uuid, version), capacity in self._capacities.items():
            for state in STATES:
                family.add_metric([str(uuid), str(version), state], getattr(capacity, state))
        yield family
