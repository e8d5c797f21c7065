"""Attach and detach on clusters without hosts: what is refused, and why."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from contract.plain import Plain


async def make(net: Plain, zone: Any, interface: str = "eth1", vlan: int | None = None) -> str:
    body = {"zoneUuid": zone["uuid"], "name": f"{interface}/{vlan}", "physicalInterface": interface}
    body |= {"type": "L2NoVlanNetwork"} if vlan is None else {"type": "L2VlanNetwork", "vlan": vlan}
    uuid: str = (await net.value("l2.create", body))["uuid"]
    return uuid


def pair(l2: str, cluster: Any, **more: Any) -> dict[str, Any]:
    return {"l2NetworkUuid": l2, "clusterUuid": cluster["uuid"], **more}


async def attached(net: Plain, l2: str) -> list[str]:
    clusters: list[str] = (await net.value("l2.get", {"uuid": l2}))["attachedClusterUuids"]
    return clusters


async def test_empty_cluster_is_attached_at_once(net: Plain, zone: Any, cluster: Any) -> None:
    """There is nobody to wait for; a detach is as quick."""
    l2 = await make(net, zone)
    up = await net.value("l2.attach", pair(l2, cluster))

    assert (up["state"], up["phase"], up["steps"], up["type"]) == ("succeeded", "ended", [], "l2.attach")
    assert (up["l2NetworkUuid"], up["clusterUuid"]) == (l2, cluster["uuid"])
    assert await attached(net, l2) == [cluster["uuid"]]
    down = await net.value("l2.detach", pair(l2, cluster))
    assert (down["state"], down["type"]) == ("succeeded", "l2.detach")
    assert await attached(net, l2) == []
    assert (await net.value("operation.get", {"uuid": up["uuid"]}))["state"] == "succeeded"


async def test_attach_of_what_is_attached_already_exists(net: Plain, zone: Any, cluster: Any) -> None:
    """By another request; the same one would get its first answer."""
    l2 = await make(net, zone)
    await net.value("l2.attach", pair(l2, cluster))
    error = await net.refusal("l2.attach", pair(l2, cluster))

    assert (error["code"], error["details"]["clusterUuid"]) == ("ALREADY_EXISTS", cluster["uuid"])


async def test_detach_of_what_is_not_attached_is_not_found(net: Plain, zone: Any, cluster: Any) -> None:
    """Nothing is changed."""
    l2 = await make(net, zone)

    assert (await net.refusal("l2.detach", pair(l2, cluster)))["code"] == "NOT_FOUND"


@pytest.mark.parametrize("message_type", ["l2.attach", "l2.detach", "l2.plan", "l2.check"])
@pytest.mark.parametrize("unknown", ["l2NetworkUuid", "clusterUuid"])
async def test_unknown_network_or_cluster_is_not_found(
    net: Plain, zone: Any, cluster: Any, message_type: str, unknown: str
) -> None:
    """Whatever was wanted of it."""
    more = {"action": "attach"} if message_type == "l2.plan" else {}
    body = pair(await make(net, zone), cluster, **more) | {unknown: str(uuid4())}

    assert (await net.refusal(message_type, body))["code"] == "NOT_FOUND"


async def test_cluster_of_another_zone_is_a_conflict(net: Plain, zone: Any) -> None:
    """And no candidate."""
    other = await net.value("zone.create", {"name": "other"})
    far = await net.value("cluster.create", {"zoneUuid": other["uuid"], "name": "far"})
    l2 = await make(net, zone)

    assert (await net.refusal("l2.attach", pair(l2, far)))["code"] == "L2_CONFLICT"
    assert (await net.refusal("l2.plan", pair(l2, far, action="attach")))["code"] == "L2_CONFLICT"
    assert await net.value("l2.candidateClusters", {"l2NetworkUuid": l2}) == {"clusters": [], "refused": []}


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (("eth1", 10), ("eth1", 10)),
        (("eth1", None), ("eth1", None)),
        (("eth0_100", None), ("eth0", 100)),  # both want br_eth0_100
        (("eth0", 100), ("eth0_100", None)),
        (("a_1", 2), ("a", None)),  # no conflict: see below
    ],
)
async def test_two_that_want_one_place_conflict(net: Plain, zone: Any, cluster: Any, one: Any, two: Any) -> None:
    """They may be created; the second attach is refused and names the first."""
    first, second = await make(net, zone, *one), await make(net, zone, *two)
    await net.value("l2.attach", pair(first, cluster))
    if one == ("a_1", 2):
        await net.value("l2.attach", pair(second, cluster))
        return
    error = await net.refusal("l2.attach", pair(second, cluster))
    plan = await net.refusal("l2.plan", pair(second, cluster, action="attach"))
    candidates = await net.value("l2.candidateClusters", {"l2NetworkUuid": second})

    assert (error["code"], error["details"]["l2NetworkUuid"]) == ("L2_CONFLICT", first)
    assert plan == error
    assert candidates["clusters"] == []
    assert candidates["refused"][0]["error"] == error
    assert await attached(net, second) == []
    await net.value("l2.detach", pair(first, cluster))
    await net.value("l2.attach", pair(second, cluster))


async def test_no_conflict_where_frames_do_not_meet(net: Plain, zone: Any, cluster: Any) -> None:
    """Untagged beside tagged, another tag, another interface, another cluster."""
    other = await net.value("cluster.create", {"zoneUuid": zone["uuid"], "name": "other"})
    for interface, vlan in (("eth1", None), ("eth1", 10), ("eth1", 11), ("eth2", 10), ("eth2", None)):
        await net.value("l2.attach", pair(await make(net, zone, interface, vlan), cluster))
    again = await make(net, zone, "eth1", 10)
    await net.value("l2.attach", pair(again, other))

    assert await attached(net, again) == [other["uuid"]]


async def test_of_twenty_conflicting_attaches_at_once_one_wins(net: Plain, zone: Any, cluster: Any) -> None:
    """The losers name the winner."""
    rivals = [await make(net, zone, "eth1", 7) for _ in range(20)]
    replies = await asyncio.gather(*(net.ask("l2.attach", pair(l2, cluster)) for l2 in rivals))
    [winner] = [l2 for l2, reply in zip(rivals, replies, strict=True) if reply["ok"]]
    errors = [reply["error"] for reply in replies if not reply["ok"]]

    assert {(error["code"], error["details"]["l2NetworkUuid"]) for error in errors} == {("L2_CONFLICT", winner)}
    assert [l2 for l2 in rivals if await attached(net, l2)] == [winner]


async def test_attached_network_and_its_cluster_cannot_be_deleted(net: Plain, zone: Any, cluster: Any) -> None:
    """`IN_USE`, naming each other."""
    l2 = await make(net, zone)
    await net.value("l2.attach", pair(l2, cluster))
    l2_error = await net.refusal("l2.delete", {"uuid": l2})
    cluster_error = await net.refusal("cluster.delete", {"uuid": cluster["uuid"]})

    assert (l2_error["code"], l2_error["details"]["clusterUuids"]) == ("IN_USE", [cluster["uuid"]])
    assert (cluster_error["code"], cluster_error["details"]["usedBy"]) == ("IN_USE", "attachment")
    await net.value("l2.detach", pair(l2, cluster))
    assert (await net.value("l2.delete", {"uuid": l2}))["uuid"] == l2
    assert (await net.value("cluster.delete", {"uuid": cluster["uuid"]}))["uuid"] == cluster["uuid"]


async def test_deleted_network_cannot_be_attached(net: Plain, zone: Any, cluster: Any) -> None:
    """It is gone for everybody."""
    l2 = await make(net, zone)
    await net.value("l2.delete", {"uuid": l2})

    assert (await net.refusal("l2.attach", pair(l2, cluster)))["code"] == "NOT_FOUND"


async def test_attach_and_delete_at_once_leave_no_half(net: Plain, zone: Any, cluster: Any) -> None:
    """Whoever is first, the other is refused."""
    for _ in range(10):
        l2 = await make(net, zone)
        attach, delete = await asyncio.gather(
            net.ask("l2.attach", pair(l2, cluster)), net.ask("l2.delete", {"uuid": l2})
        )
        if attach["ok"]:
            assert delete["error"]["code"] == "IN_USE"
            await net.value("l2.detach", pair(l2, cluster))
        else:
            assert (attach["error"]["code"], delete["ok"]) == ("NOT_FOUND", True)


async def test_check_and_plan_of_no_hosts_are_empty(net: Plain, zone: Any, cluster: Any) -> None:
    """Nobody was asked."""
    l2 = await make(net, zone)

    assert await net.value("l2.check", {"l2NetworkUuid": l2}) == []
    assert await net.value("l2.check", pair(l2, cluster)) == []
    for action in ("attach", "detach"):
        assert await net.value("l2.plan", pair(l2, cluster, action=action)) == {"action": action, "hosts": []}


async def test_hosts_that_never_came_do_not_block(net: Plain, zone: Any, cluster: Any) -> None:
    """They are noted as skipped, and wanted: they realise it when they come."""
    host = await net.value("host.create", {"clusterUuid": cluster["uuid"], "name": "h"})
    l2 = await make(net, zone)
    operation = await net.value("l2.attach", pair(l2, cluster))
    [row] = (await net.value("realization.query", {"filters": {"l2NetworkUuid": l2}}))["items"]

    assert [(step["hostUuid"], step["state"]) for step in operation["steps"]] == [(host["uuid"], "skipped")]
    assert (row["desired"], row["state"], row["observedGeneration"]) == ("present", "pending", None)
    await net.value("l2.detach", pair(l2, cluster))
    assert (await net.value("realization.query", {"filters": {"l2NetworkUuid": l2}}))["items"] == []
