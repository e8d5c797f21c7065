"""Zones, clusters, hosts and L2 networks: create, get, query, update, delete, with every documented field."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from contract.plain import Plain

ENTITIES = ["zone", "cluster", "host", "l2"]


def vlan(zone: Any, **fields: Any) -> dict[str, Any]:
    body = {"zoneUuid": zone["uuid"], "name": "blue", "type": "L2VlanNetwork", "physicalInterface": "eth1", "vlan": 10}
    return body | fields


def body_of(kind: str, zone: Any, cluster: Any) -> dict[str, Any]:
    """The least that makes one."""
    match kind:
        case "zone":
            return {"name": "one"}
        case "cluster":
            return {"name": "one", "zoneUuid": zone["uuid"], "hypervisorType": "KVM"}
        case "host":
            return {"name": "one", "clusterUuid": cluster["uuid"]}
        case _:
            return vlan(zone, name="one")


def assert_times(inventory: Any) -> None:
    for name in ("createdAt", "updatedAt"):
        assert datetime.fromisoformat(inventory[name]).utcoffset() is not None


async def test_zone_has_the_documented_fields(net: Plain) -> None:
    """What was given comes back, beside what the manager adds."""
    uuid = str(uuid4())
    zone = await net.value("zone.create", {"uuid": uuid, "name": "zone 1", "description": "first\nzone"})

    assert_times(zone)
    zone.pop("createdAt"), zone.pop("updatedAt")
    assert zone == {"uuid": uuid, "name": "zone 1", "description": "first\nzone", "revision": 1}


async def test_cluster_has_the_documented_fields(net: Plain, zone: Any) -> None:
    """A cluster names its zone and hypervisor type."""
    cluster = await net.value("cluster.create", {"zoneUuid": zone["uuid"], "name": "c", "hypervisorType": "KVM"})

    assert (cluster["zoneUuid"], cluster["hypervisorType"], cluster["name"]) == (zone["uuid"], "KVM", "c")


async def test_host_has_the_documented_fields_and_its_credentials_once(net: Plain, cluster: Any) -> None:
    """Credentials are in the answer to `host.create` and nowhere else."""
    body = {"clusterUuid": cluster["uuid"], "name": "h", "tunnelIp": "192.0.2.7", "labels": {"rack": "r1"}}
    host = await net.value("host.create", body)

    uuid = host["uuid"]
    assert host["credentials"]["queue"] == f"viaduct.agent.{uuid}"
    assert host["credentials"]["username"] == uuid
    assert len(host["credentials"]["password"]) >= 40
    assert {key: host[key] for key in body} == body
    assert (host["state"], host["maintenance"]) == ("connecting", False)
    assert (await net.value("host.get", {"uuid": uuid}))["credentials"] is None
    [listed] = (await net.value("host.query", {"filters": {"uuid": uuid}}))["items"]
    assert listed["credentials"] is None


async def test_vlan_network_has_the_documented_fields(net: Plain, zone: Any) -> None:
    """The model's inventory, with the names that hosts will use."""
    body = vlan(zone, description="d", mtu=9000)
    l2 = await net.value("l2.create", body)

    assert {key: l2[key] for key in body} == body
    assert (l2["attachedClusterUuids"], l2["bridgeName"]) == ([], "br_eth1_10")
    assert l2["deviceNames"] == ["br_eth1_10", "eth1.10"]
    assert_times(l2)


async def test_novlan_network_has_no_vlan(net: Plain, zone: Any) -> None:
    """A field of another type is no field of this one."""
    body = {"zoneUuid": zone["uuid"], "name": "flat", "type": "L2NoVlanNetwork", "physicalInterface": "eth1"}
    l2 = await net.value("l2.create", body)
    error = await net.refusal("l2.create", body | {"vlan": 10})

    assert "vlan" not in l2
    assert (l2["mtu"], l2["bridgeName"]) == (1500, "br_eth1")
    assert (error["code"], error["details"]["field"]) == ("INVALID_REQUEST", "vlan")


@pytest.mark.parametrize("kind", ENTITIES)
async def test_client_may_choose_the_uuid_once(net: Plain, zone: Any, cluster: Any, kind: str) -> None:
    """A second creation under the same uuid, by another request, is refused and changes nothing."""
    body = body_of(kind, zone, cluster) | {"uuid": str(uuid4())}
    first = await net.value(f"{kind}.create", body)
    error = await net.refusal(f"{kind}.create", body | {"name": "two"})

    assert first["uuid"] == body["uuid"]
    assert error["code"] == "ALREADY_EXISTS"
    assert error["details"]["uuid"] == body["uuid"]
    assert (await net.value(f"{kind}.get", {"uuid": body["uuid"]}))["name"] == "one"


@pytest.mark.parametrize("kind", ENTITIES)
async def test_update_changes_what_is_given_and_counts_the_revision(
    net: Plain, zone: Any, cluster: Any, kind: str
) -> None:
    """Fields that are not given stay; the revision read before is accepted."""
    made = await net.value(f"{kind}.create", body_of(kind, zone, cluster) | {"description": "kept"})
    updated = await net.value(f"{kind}.update", {"uuid": made["uuid"], "name": "new", "revision": made["revision"]})

    assert (updated["name"], updated["description"], updated["revision"]) == ("new", "kept", made["revision"] + 1)
    assert updated["updatedAt"] > made["updatedAt"]
    assert (await net.value(f"{kind}.get", {"uuid": made["uuid"]}))["name"] == "new"


@pytest.mark.parametrize("kind", ENTITIES)
async def test_update_with_a_stale_revision_is_a_conflict(net: Plain, zone: Any, cluster: Any, kind: str) -> None:
    """The details tell the revision that it has now."""
    made = await net.value(f"{kind}.create", body_of(kind, zone, cluster))
    await net.value(f"{kind}.update", {"uuid": made["uuid"], "name": "new"})
    error = await net.refusal(f"{kind}.update", {"uuid": made["uuid"], "name": "late", "revision": 1})

    assert (error["code"], error["details"]["revision"], error["retryable"]) == ("CONFLICT", 2, False)
    assert (await net.value(f"{kind}.get", {"uuid": made["uuid"]}))["name"] == "new"


@pytest.mark.parametrize("kind", ENTITIES)
@pytest.mark.parametrize("action", ["get", "update"])
async def test_what_does_not_exist_is_not_found(net: Plain, kind: str, action: str) -> None:
    """The details name what was looked for."""
    uuid = str(uuid4())
    error = await net.refusal(f"{kind}.{action}", {"uuid": uuid})

    assert (error["code"], error["details"]["uuid"]) == ("NOT_FOUND", uuid)


@pytest.mark.parametrize("kind", ENTITIES)
async def test_delete_answers_what_was_deleted_and_null_for_nothing(
    net: Plain, zone: Any, cluster: Any, kind: str
) -> None:
    """Deleting is idempotent: the second time there is nothing, and that is no error."""
    made = await net.value(f"{kind}.create", body_of(kind, zone, cluster))

    assert (await net.value(f"{kind}.delete", {"uuid": made["uuid"]}))["uuid"] == made["uuid"]
    assert await net.value(f"{kind}.delete", {"uuid": made["uuid"]}) is None
    assert await net.value(f"{kind}.delete", {"uuid": str(uuid4())}) is None
    assert (await net.refusal(f"{kind}.get", {"uuid": made["uuid"]}))["code"] == "NOT_FOUND"


@pytest.mark.parametrize(("kind", "field"), [("cluster", "zoneUuid"), ("host", "clusterUuid"), ("l2", "zoneUuid")])
async def test_create_under_an_unknown_parent_is_not_found(
    net: Plain, zone: Any, cluster: Any, kind: str, field: str
) -> None:
    """And it is not made."""
    uuid = str(uuid4())
    error = await net.refusal(f"{kind}.create", body_of(kind, zone, cluster) | {field: str(uuid4()), "uuid": uuid})

    assert error["code"] == "NOT_FOUND"
    assert (await net.refusal(f"{kind}.get", {"uuid": uuid}))["code"] == "NOT_FOUND"


async def test_parent_in_use_cannot_be_deleted(net: Plain, zone: Any, cluster: Any) -> None:
    """`IN_USE` names who depends on it."""
    await net.value("host.create", {"clusterUuid": cluster["uuid"], "name": "h"})

    zone_error = await net.refusal("zone.delete", {"uuid": zone["uuid"]})
    cluster_error = await net.refusal("cluster.delete", {"uuid": cluster["uuid"]})

    assert (zone_error["code"], zone_error["details"]["usedBy"]) == ("IN_USE", "cluster")
    assert (cluster_error["code"], cluster_error["details"]["usedBy"]) == ("IN_USE", "host")


async def test_zone_with_an_l2_network_cannot_be_deleted(net: Plain, zone: Any) -> None:
    """Nor can one with networks only."""
    await net.value("l2.create", vlan(zone))
    error = await net.refusal("zone.delete", {"uuid": zone["uuid"]})

    assert (error["code"], error["details"]["usedBy"]) == ("IN_USE", "l2 network")


async def pages(net: Plain, message_type: str, body: dict[str, Any]) -> list[Any]:
    """All pages of a query, one list each."""
    found, after = [], None
    while True:
        page = await net.value(message_type, body | ({} if after is None else {"after": after}))
        found.append(page["items"])
        after = page["after"]
        if after is None:
            return found
        assert len(found) < 50


@pytest.mark.parametrize("sort", ["name", "-name", "createdAt", "-createdAt", "uuid", "vlan"])
async def test_query_pages_through_all_in_order(net: Plain, zone: Any, sort: str) -> None:
    """Page by page every row comes once, in the order asked for; equal sort values lose nobody."""
    names = ["d", "a", "c", "a", "b", "a", "a"]
    made = [await net.value("l2.create", vlan(zone, name=name)) for name in names]
    body = {"filters": {"zoneUuid": zone["uuid"]}, "limit": 2, "sort": sort}
    if sort == "vlan":
        assert (await net.refusal("l2.query", body))["details"]["field"] == "sort"
        return
    found = await pages(net, "l2.query", body)

    field, rows = sort.removeprefix("-"), [row for page in found for row in page]
    assert [len(page) for page in found] == [2, 2, 2, 1]
    assert {row["uuid"] for row in rows} == {row["uuid"] for row in made}
    assert [row[field] for row in rows] == sorted((row[field] for row in made), reverse=sort.startswith("-"))


@pytest.mark.parametrize("sort", ["l2NetworkUuid", "-clusterUuid"])
async def test_query_sorted_by_what_some_do_not_have_loses_nobody(
    net: Plain, zone: Any, cluster: Any, sort: str
) -> None:
    """An operation about a host has no L2 network; it is listed all the same."""
    l2 = await net.value("l2.create", vlan(zone))
    for _ in range(2):
        await net.value("l2.attach", {"l2NetworkUuid": l2["uuid"], "clusterUuid": cluster["uuid"]})
        await net.value("l2.detach", {"l2NetworkUuid": l2["uuid"], "clusterUuid": cluster["uuid"]})
        host = await net.value("host.create", {"clusterUuid": cluster["uuid"], "name": "h"})
        await net.value("host.delete", {"uuid": host["uuid"]})
    everything = (await net.value("operation.query", {"limit": 1000}))["items"]
    rows = [row for page in await pages(net, "operation.query", {"limit": 2, "sort": sort}) for row in page]

    assert sorted(row["uuid"] for row in rows) == sorted(row["uuid"] for row in everything)


async def test_query_filters_by_a_value_or_by_any_of_several(net: Plain, zone: Any, cluster: Any) -> None:
    """Filters of several fields must all hold."""
    body = {"zoneUuid": zone["uuid"], "type": "L2VlanNetwork", "physicalInterface": "eth1"}
    one, two, three = [
        await net.value("l2.create", body | {"name": name, "vlan": vlan_id})
        for name, vlan_id in (("one", 1), ("two", 2), ("three", 3))
    ]
    await net.value("l2.attach", {"l2NetworkUuid": two["uuid"], "clusterUuid": cluster["uuid"]})

    async def names(**filters: Any) -> list[str]:
        page = await net.value("l2.query", {"filters": {"zoneUuid": zone["uuid"], **filters}, "sort": "createdAt"})
        return [row["name"] for row in page["items"]]

    assert await names() == ["one", "two", "three"]
    assert await names(name="two") == ["two"]
    assert await names(name=["one", "three", "none"]) == ["one", "three"]
    assert await names(uuid=[one["uuid"], three["uuid"]], name="three") == ["three"]
    assert await names(type="L2NoVlanNetwork") == []
    assert await names(physicalInterface="eth1", clusterUuid=cluster["uuid"]) == ["two"]
    assert await names(name=[]) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"filters": {"colour": "blue"}}, "filters.colour"),
        ({"filters": {"zone_uuid": str(uuid4())}}, "filters.zone_uuid"),
        ({"sort": "colour"}, "sort"),
        ({"sort": "-"}, "sort"),
        ({"sort": ""}, "sort"),
        ({"sort": "name; DROP TABLE zone"}, "sort"),
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"limit": "5"}, "limit"),
        ({"after": "nonsense"}, "after"),
        ({"after": "WyJ4IiwieSJd"}, "after"),  # ["x","y"]: well-formed, but no time and no uuid
        ({"after": "WyJcdTAwMDAiLCJ5Il0="}, "after"),  # ["\u0000","y"]
        ({"after": "W1tbW1tbW1tb" * 100}, "after"),
        ({"filters": {"type": "a\0b"}}, "filters.type"),
        ({"filters": {"physicalInterface": ["a\0b"]}}, "filters.physicalInterface"),
        ({"offset": 5}, "offset"),
    ],
)
async def test_query_refuses_what_it_does_not_know(net: Plain, body: dict[str, Any], field: str) -> None:
    """Neither an unknown filter, nor sort, nor a cursor that is not ours becomes a default."""
    error = await net.refusal("l2.query", body)

    assert error["code"] == "INVALID_REQUEST"
    assert error["details"]["field"].startswith(field)


@pytest.mark.parametrize("revision", [0, -1, "1", 2**31, 2**63, 1.5])
async def test_revision_must_be_one_that_can_exist(net: Plain, zone: Any, revision: Any) -> None:
    """A number that no revision can have is a bad field, not an accident."""
    error = await net.refusal("zone.update", {"uuid": zone["uuid"], "name": "x", "revision": revision})

    assert error["code"] in {"INVALID_REQUEST", "CONFLICT"}


async def test_l3_network_needs_its_l2_network(net: Plain) -> None:
    """Nothing is asked of IPAM for it."""
    error = await net.refusal("l3.create", {"l2NetworkUuid": str(uuid4()), "name": "l3"})

    assert error["code"] == "NOT_FOUND"
    UUID(error["details"]["uuid"])
