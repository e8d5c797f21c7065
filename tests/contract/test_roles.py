"""Who may ask what: the role of the broker-validated user."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import uuid4

import aio_pika
import pytest
from contract.plain import Plain
from integration.manager.control_plane import Place

ROLES = ["reader", "operator", "admin"]
# One request for each role that is needed, and what answers it when the role reaches.
NEEDS = {
    "reader": ("zone.get", {"uuid": str(uuid4())}, "NOT_FOUND"),
    "operator": ("cluster.create", {"zoneUuid": str(uuid4()), "name": "c"}, "NOT_FOUND"),
    "admin": ("host.create", {"clusterUuid": str(uuid4()), "name": "h"}, "NOT_FOUND"),
}


@pytest.fixture(scope="module")
async def people(place: Place) -> AsyncIterator[dict[str, Plain]]:
    """A client of each role, and `stranger`, whose user has none; the manager gives no role to anonymous senders."""
    async with AsyncExitStack() as stack:
        users = {role: f"{role}-{place.name}" for role in [*ROLES, "stranger"]}
        given = json.dumps({users[role]: role for role in ROLES})
        await stack.enter_async_context(place.running("manager", VIADUCT_ROLES=given, VIADUCT_ANONYMOUS_ROLE=""))
        clients = {}
        for role, user in users.items():
            url = await place.add_user(user, "hush")
            clients[role] = await stack.enter_async_context(Plain(url))
        yield clients


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("needed", ROLES)
async def test_role_reaches_as_far_as_it_says(people: dict[str, Plain], place: Place, role: str, needed: str) -> None:
    """A reader reads, an operator works on networks, an admin registers hosts; each may what those before may."""
    message_type, body, good = NEEDS[needed]
    error = await people[role].refusal(message_type, body, user_id=f"{role}-{place.name}")

    assert error["code"] == (good if ROLES.index(role) >= ROLES.index(needed) else "FORBIDDEN")


@pytest.mark.parametrize("needed", ROLES)
async def test_sender_without_a_role_is_forbidden_everything(
    people: dict[str, Plain], place: Place, needed: str
) -> None:
    """A user that was given none, and a sender who does not say who it is, whatever its user."""
    message_type, body, _ = NEEDS[needed]
    stranger = await people["stranger"].refusal(message_type, body, user_id=f"stranger-{place.name}")
    anonymous = await people["admin"].refusal(message_type, body)

    assert (stranger["code"], anonymous["code"]) == ("FORBIDDEN", "FORBIDDEN")
    assert stranger["details"]["required"] == needed


async def test_batch_gives_nobody_a_longer_arm(people: dict[str, Plain], place: Place) -> None:
    """Each item is judged by the role that it needs."""
    items = [{"messageId": str(uuid4()), "type": kind, "body": body} for kind, body, _ in NEEDS.values()]
    answers = await people["reader"].value("batch", {"requests": items}, user_id=f"reader-{place.name}")

    assert [answer["error"]["code"] for answer in answers] == ["NOT_FOUND", "FORBIDDEN", "FORBIDDEN"]


async def test_nobody_can_say_that_he_is_somebody_else(place: Place, people: dict[str, Plain]) -> None:
    """The broker refuses a `user_id` that is not the connection's."""
    async with Plain(place.amqp_url(f"reader-{place.name}", "hush")) as forger:
        with pytest.raises(aio_pika.exceptions.CONNECTION_EXCEPTIONS, match="user_id"):
            await forger.send("zone.create", {"name": "x"}, user_id=f"admin-{place.name}")
