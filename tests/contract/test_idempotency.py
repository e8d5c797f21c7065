"""The message id of a mutating request: done once, answered the same for ever after."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from contract.plain import Plain


async def test_repeated_message_id_gets_the_first_answer(net: Plain) -> None:
    """Byte for byte, whatever the repetition asks for."""
    message_id = str(uuid4())
    first = await net.raw("zone.create", {"name": "one"}, message_id=message_id)
    again = await net.raw("zone.create", {"name": "two"}, message_id=message_id)

    assert again.body == first.body


async def test_repeated_refusal_is_the_same_refusal(net: Plain, zone: Any) -> None:
    """Also when it would be granted by now."""
    message_id, uuid = str(uuid4()), zone["uuid"]
    cluster = await net.value("cluster.create", {"zoneUuid": uuid, "name": "c"})
    first = await net.raw("zone.delete", {"uuid": uuid}, message_id=message_id)
    await net.value("cluster.delete", {"uuid": cluster["uuid"]})
    again = await net.raw("zone.delete", {"uuid": uuid}, message_id=message_id)

    assert first.json["error"]["code"] == "IN_USE"
    assert again.body == first.body
    assert (await net.value("zone.delete", {"uuid": uuid}))["uuid"] == uuid


async def test_bad_request_may_be_mended_under_the_same_message_id(net: Plain) -> None:
    """What was never understood was never done."""
    message_id = str(uuid4())
    await net.refusal("zone.create", {"name": ""}, message_id=message_id)

    await net.value("zone.create", {"name": "good"}, message_id=message_id)


async def test_twenty_at_the_same_moment_are_one(net: Plain) -> None:
    """One effect, twenty identical answers."""
    message_id, name = str(uuid4()), f"zone {uuid4()}"
    await asyncio.gather(
        *(net.send("zone.create", {"name": name}, message_id=message_id, reply=True) for _ in range(20))
    )
    answers = {(await net.reply(message_id)).body for _ in range(20)}

    assert len(answers) == 1
    assert len((await net.value("zone.query", {"filters": {"name": name}}))["items"]) == 1


async def test_reading_request_is_simply_done_again(net: Plain, zone: Any) -> None:
    """A repeated `get` sees what is now."""
    message_id = str(uuid4())
    await net.value("zone.get", {"uuid": zone["uuid"]}, message_id=message_id)
    await net.value("zone.update", {"uuid": zone["uuid"], "name": "new"})

    assert (await net.value("zone.get", {"uuid": zone["uuid"]}, message_id=message_id))["name"] == "new"


@pytest.mark.parametrize("wait", [True, False])
async def test_repeated_attach_gets_the_first_answer(net: Plain, zone: Any, cluster: Any, wait: bool) -> None:
    """Even after it was detached again."""
    message_id = str(uuid4())
    l2 = await net.value(
        "l2.create", {"zoneUuid": zone["uuid"], "name": "n", "type": "L2NoVlanNetwork", "physicalInterface": "eth1"}
    )
    body = {"l2NetworkUuid": l2["uuid"], "clusterUuid": cluster["uuid"], "wait": wait}
    first = await net.raw("l2.attach", body, message_id=message_id)
    await net.value("l2.detach", {"l2NetworkUuid": l2["uuid"], "clusterUuid": cluster["uuid"]})
    again = await net.raw("l2.attach", body, message_id=message_id)

    assert first.json["value"]["state"] == "succeeded"
    assert again.body == first.body


@pytest.mark.parametrize("message_type", ["l2.check", "l2.plan"])
async def test_question_about_hosts_may_be_repeated(net: Plain, zone: Any, cluster: Any, message_type: str) -> None:
    """A lost answer is asked for again under the same message id."""
    l2 = await net.value(
        "l2.create", {"zoneUuid": zone["uuid"], "name": "n", "type": "L2NoVlanNetwork", "physicalInterface": "eth1"}
    )
    body = {"l2NetworkUuid": l2["uuid"], "clusterUuid": cluster["uuid"]}
    body |= {"action": "attach"} if message_type == "l2.plan" else {}
    message_id = str(uuid4())

    first = await net.value(message_type, body, message_id=message_id)
    assert await net.value(message_type, body, message_id=message_id) == first


# ---- batch -------------------------------------------------------------------------------------------------------


def item(message_type: str, body: Any, message_id: str | None = None) -> dict[str, Any]:
    return {"messageId": message_id or str(uuid4()), "type": message_type, "body": body}


async def test_batch_is_answered_in_order_each_on_its_own(net: Plain) -> None:
    """One that is refused hinders no other; one may use what the one before made."""
    uuid = str(uuid4())
    answers = await net.value(
        "batch",
        {
            "requests": [
                item("zone.create", {"uuid": uuid, "name": "z"}),
                item("cluster.create", {"zoneUuid": uuid, "name": ""}),
                item("cluster.create", {"zoneUuid": uuid, "name": "c"}),
                item("zone.explode", {}),
                item("zone.get", {"uuid": uuid}),
            ]
        },
    )

    assert [answer["ok"] for answer in answers] == [True, False, True, False, True]
    assert answers[1]["error"]["details"]["field"] == "name"
    assert answers[3]["error"]["code"] == "UNSUPPORTED_TYPE"
    assert answers[4]["value"]["uuid"] == uuid


async def test_batch_items_have_their_own_idempotency(net: Plain) -> None:
    """An item is the same request as one sent by itself."""
    message_id = str(uuid4())
    alone = await net.ask("zone.create", {"name": "z"}, message_id=message_id)
    twice = item("zone.create", {"name": "other"}, message_id)

    assert await net.value("batch", {"requests": [twice, twice]}) == [alone, alone]


async def test_batch_in_a_batch_is_refused(net: Plain) -> None:
    """The item, not the whole."""
    inner = {"requests": [item("zone.query", {})]}
    answers = await net.value("batch", {"requests": [item("batch", inner), item("zone.query", {"limit": 1})]})

    assert [answer["ok"] for answer in answers] == [False, True]
    assert answers[0]["error"]["code"] == "INVALID_REQUEST"


@pytest.mark.parametrize(
    ("requests", "field"),
    [
        ([], "requests"),
        ([item("zone.query", {})] * 257, "requests"),
        (None, "requests"),
        ([{"type": "zone.query", "body": {}}], "requests.0.messageId"),
        ([item("zone.query", {}) | {"x": 1}], "requests.0.x"),
        ([item("zone.query", [])], "requests.0.body"),
        ([item("zone.query", {}, "x")], "requests.0.messageId"),
    ],
)
async def test_batch_that_is_none_is_refused(net: Plain, requests: Any, field: str) -> None:
    """Between 1 and 256 items, each whole."""
    error = await net.refusal("batch", {"requests": requests})

    assert (error["code"], error["details"]["field"]) == ("INVALID_REQUEST", field)


async def test_batch_of_256_is_done(net: Plain) -> None:
    """The most that is taken."""
    answers = await net.value("batch", {"requests": [item("zone.query", {"limit": 1}) for _ in range(256)]})

    assert len(answers) == 256
    assert all(answer["ok"] for answer in answers)


async def test_message_id_of_another_request_type_is_refused(net: Plain) -> None:
    """A zone would be no answer to whoever asked for a cluster."""
    message_id = str(uuid4())
    zone = await net.value("zone.create", {"name": "first"}, message_id=message_id)
    body = {"zoneUuid": zone["uuid"], "name": "second"}
    refusal = await net.refusal("cluster.create", body, message_id=message_id)

    assert (refusal["code"], refusal["details"]["type"]) == ("CONFLICT", "zone.create")
    assert await net.value("zone.create", {"name": "first"}, message_id=message_id) == zone
