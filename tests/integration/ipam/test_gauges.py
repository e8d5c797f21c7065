"""What the gauges tell of L3 networks, and what is counted."""

from uuid import UUID

from integration.ipam.harness import Ipam
from prometheus_client import REGISTRY

from viaduct_common.messages.ipam import ReclaimIps
from viaduct_common.postgres.pool import Pool
from viaduct_ipam.engine.gauges import STATES, NetworkGauges
from viaduct_ipam.store.fullest import fullest_l3


def told(gauges: NetworkGauges) -> dict[tuple[UUID, str], list[float]]:
    """By L3 network and IP version: total, used, cooling, reserved, available."""
    found: dict[tuple[UUID, str], list[float]] = {}
    for family in gauges.collect():
        for sample in family.samples:
            key = UUID(sample.labels["l3_network_uuid"]), sample.labels["ip_version"]
            found.setdefault(key, [-1.0] * len(STATES))[STATES.index(sample.labels["state"])] = sample.value
    return found


async def test_each_version_of_a_network_has_its_gauges(ipam: Ipam, pool: Pool) -> None:
    """As `ip.capacity` has it; they change at the next refresh, and go with the network's ranges."""
    network = await ipam.network(cooling_seconds=60)
    await network.range(start_ip="10.0.0.1", end_ip="10.0.0.10", prefix_length=24, gateway="10.0.0.1")
    await network.range(network_cidr="fd00::/64")
    await network.reserve("10.0.0.2", "10.0.0.3")
    [first, *_] = await network.ips(count=4)
    await network.release(first)
    gauges = NetworkGauges(pool, 100_000)
    assert told(gauges) == {}

    await gauges.refresh()

    assert told(gauges)[network.l3, "4"] == [9, 3, 1, 2, 3]
    total, used, *_ = told(gauges)[network.l3, "6"]
    assert (total, used) == (2**64 - 2, 0)


async def test_only_the_fullest_networks_are_told_of(ipam: Ipam, pool: Pool) -> None:
    """By the fullest of their IP versions, however large their ranges are."""
    full_v6, half, full_v4 = [await ipam.network() for _ in range(3)]
    await full_v6.range(start_ip="fd00::1", end_ip="fd00::2", prefix_length=64)
    await full_v6.range(network_cidr="10.0.0.0/16")
    await full_v6.ips(ip_version=6, count=2)
    await half.range(start_ip="10.0.0.5", end_ip="10.0.0.8", prefix_length=24)
    await half.range(start_ip="fd00::1", end_ip="fdff::2", prefix_length=8)
    await half.ips(count=2)
    await full_v4.range(start_ip="10.0.0.5", end_ip="10.0.0.6", prefix_length=24)
    await full_v4.ips(count=2)

    async with pool.acquire() as connection:
        order = await fullest_l3(connection, 100_000)
        assert await fullest_l3(connection, 2) == order[:2]
        assert await fullest_l3(connection, 0) == []

    assert max(order.index(full_v6.l3), order.index(full_v4.l3)) < order.index(half.l3)


async def test_addresses_are_counted_by_what_becomes_of_them(ipam: Ipam) -> None:
    """Given out, released, expired and reclaimed; and each request's time in the engine."""

    def counted() -> dict[str, float]:
        kinds = ("allocated", "released", "expired", "reclaimed")
        return {kind: REGISTRY.get_sample_value("viaduct_ipam_addresses_total", {"what": kind}) or 0 for kind in kinds}

    def requests() -> float:
        return REGISTRY.get_sample_value("viaduct_ipam_engine_seconds_count", {"type": "ip.allocate"}) or 0

    network = await ipam.network()
    await network.range(network_cidr="10.0.0.0/24")
    await ipam.sweep()  # leases that other tests have left are not counted here
    before, asked = counted(), requests()

    await network.ips(count=5)
    leases = await network.allocate(count=3, ttl_seconds=60)
    [lost] = await network.allocate(owner="vm-1")
    await network.release("10.0.0.2", "10.0.0.3", "10.0.0.77")
    await ipam(ReclaimIps(uuids=[lost.uuid], known_owners=[]))
    await ipam.pool.execute("UPDATE used_ip SET expires_at = now() WHERE uuid = $1", leases[0].uuid)
    await ipam.sweep()

    after = counted()
    change = {kind: after[kind] - before[kind] for kind in after}
    assert change == {"allocated": 9, "released": 2, "expired": 1, "reclaimed": 1}
    assert requests() - asked == 3
