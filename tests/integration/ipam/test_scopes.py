"""`scope.*` on a real database."""

from typing import Any
from uuid import uuid4

import pytest
from integration.ipam.harness import Ipam, Network

from viaduct_common.errors import Conflict, InUse, NotFound
from viaduct_common.messages.ipam import (
    DeleteScope,
    GetRange,
    GetScope,
    QueryScopes,
    RegisterScope,
    ScopeFilters,
    ScopeInventory,
)


async def test_registration_is_idempotent(ipam: Ipam) -> None:
    """The same again gives the same scope, and changes what it names; another L2 network or zone is a conflict."""
    place = {"l3_network_uuid": uuid4(), "l2_network_uuid": uuid4(), "zone_uuid": uuid4()}

    async def register(**fields: Any) -> ScopeInventory:
        return await ipam(RegisterScope.model_validate({**place, **fields}))

    scope = await register(strategy="random", cooling_seconds=60)

    assert (scope.strategy, scope.cooling_seconds) == ("random", 60)
    assert await register(strategy="random", cooling_seconds=60) == scope
    assert await register() == scope
    assert await register(strategy="nextFit") == scope.model_copy(update={"strategy": "nextFit"})
    assert await register(cooling_seconds=0) == scope.model_copy(update={"strategy": "nextFit", "cooling_seconds": 0})
    for field in ("l2_network_uuid", "zone_uuid"):
        with pytest.raises(Conflict) as refused:
            await register(**{field: uuid4()}, strategy="random")
        assert refused.value.details["l2NetworkUuid"] == str(place["l2_network_uuid"])
    assert (await register()).strategy == "nextFit", "a refused registration changes nothing"


async def test_scopes_are_got_and_listed(ipam: Ipam) -> None:
    """By L3 network, L2 network or zone, a page at a time."""
    zone, l2 = uuid4(), uuid4()
    first = await ipam.network("nextFit", zone=zone, l2=l2, cooling_seconds=5)
    second, third = await ipam.network(zone=zone), await ipam.network(l2=l2)

    async def listed(**filters: Any) -> list[Any]:
        page = await ipam(QueryScopes(filters=ScopeFilters(**filters)))
        return [scope.l3_network_uuid for scope in page.items]

    got = await ipam(GetScope(l3_network_uuid=first.l3))
    assert (got.l2_network_uuid, got.zone_uuid, got.strategy, got.cooling_seconds) == (l2, zone, "nextFit", 5)
    assert await listed(zone_uuid=zone) == [first.l3, second.l3]
    assert await listed(l2_network_uuid=l2) == [first.l3, third.l3]
    assert await listed(l3_network_uuid=[third.l3, second.l3, uuid4()]) == [second.l3, third.l3]
    assert await listed(zone_uuid=zone, l2_network_uuid=l2) == [first.l3]

    page = await ipam(QueryScopes(filters=ScopeFilters(zone_uuid=zone), limit=1))
    rest = await ipam(QueryScopes(filters=ScopeFilters(zone_uuid=zone), limit=1, after=page.after))
    assert [*page.items, *rest.items] == (await ipam(QueryScopes(filters=ScopeFilters(zone_uuid=zone)))).items
    assert rest.after is None
    with pytest.raises(NotFound):
        await ipam(GetScope(l3_network_uuid=uuid4()))


async def test_scope_with_used_addresses_stays(ipam: Ipam, network: Network) -> None:
    """It goes with its ranges and reservations once nothing of it is used; a second delete is no error."""
    [stored] = await network.range(network_cidr="10.0.0.0/29")
    await network.reserve("10.0.0.5", "10.0.0.6")
    [ip] = await network.ips()

    with pytest.raises(InUse) as refused:
        await ipam(DeleteScope(l3_network_uuid=network.l3))
    assert refused.value.details["used"] == 1

    await network.release(ip)
    gone = await ipam(DeleteScope(l3_network_uuid=network.l3))
    assert gone is not None
    assert gone.l3_network_uuid == network.l3
    assert await ipam(DeleteScope(l3_network_uuid=network.l3)) is None
    with pytest.raises(NotFound):
        await ipam(GetRange(uuid=stored.uuid))
    with pytest.raises(NotFound):
        await ipam(GetScope(l3_network_uuid=network.l3))


async def test_scope_goes_with_what_is_cooling_in_it(ipam: Ipam) -> None:
    """What cools is nobody's."""
    network = await ipam.network(cooling_seconds=3600)
    await network.range(network_cidr="10.0.0.0/24")
    await network.release(*await network.ips(count=3))

    assert await ipam(DeleteScope(l3_network_uuid=network.l3))
    assert not await ipam.pool.fetchval("SELECT count(*) FROM cooling_ip WHERE l3_network_uuid = $1", network.l3)


async def test_a_shorter_cooling_time_holds_for_what_is_cooling(ipam: Ipam) -> None:
    """A longer one only for what is released from now on."""
    network = await ipam.network(cooling_seconds=3600)
    body = {"l3_network_uuid": network.l3, "l2_network_uuid": network.l2, "zone_uuid": network.zone}
    await network.range(network_cidr="10.0.0.0/24")
    await network.release(*await network.ips())

    async def left() -> float:
        """Seconds until the address is free."""
        return float(await ipam.pool.fetchval(
            "SELECT extract(epoch FROM until - now()) FROM cooling_ip WHERE l3_network_uuid = $1", network.l3
        ))  # fmt: skip

    await ipam(RegisterScope.model_validate({**body, "cooling_seconds": 7200}))
    assert 3500 < await left() <= 3600
    await ipam(RegisterScope.model_validate({**body, "cooling_seconds": 60}))
    assert 0 < await left() <= 60
    await ipam(RegisterScope.model_validate({**body, "cooling_seconds": 0}))
    assert await left() <= 0


async def test_every_change_of_settings_raises_the_revisions(ipam: Ipam, network: Network) -> None:
    """So whoever has read the scope before reads it again; what changes nothing raises nothing."""
    body = {"l3_network_uuid": network.l3, "l2_network_uuid": network.l2, "zone_uuid": network.zone}
    for fields in ({"strategy": "random"}, {"cooling_seconds": 5}):
        before = await network.revisions()
        await ipam(RegisterScope.model_validate({**body, **fields}))
        after = await network.revisions()
        assert after[0] > before[0]
        assert after[1] > before[1]
        await ipam(RegisterScope.model_validate({**body, **fields}))
        await ipam(RegisterScope.model_validate(body))
        assert await network.revisions() == after


async def test_a_network_that_is_made_known_anew_is_not_taken_for_the_former_one(ipam: Ipam, network: Network) -> None:
    """Its revisions go on, so what a process has kept of the former one is of no use; its answers are right."""
    body = {"l3_network_uuid": network.l3, "l2_network_uuid": network.l2, "zone_uuid": network.zone}
    for subnet in ("10.0.0.0/24", "10.0.1.0/24"):
        await network.range(network_cidr=subnet)
        await network.reserve(subnet.replace("0/24", "2"), subnet.replace("0/24", "3"))
        [ip] = await network.ips()
        assert ip == subnet.replace("0/24", "4")
        await network.release(ip)
        before = await network.revisions()
        await ipam(DeleteScope(l3_network_uuid=network.l3))
        await ipam(RegisterScope.model_validate(body))
        after = await network.revisions()
        assert after[0] > before[0]
        assert after[1] > before[1]
