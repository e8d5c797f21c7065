"""The `viaduct` command against real services."""

import asyncio
import json
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from integration.manager.control_plane import Place
from rich.console import Console

from local_stack.service import Service
from viaduct_common.client import ViaductClient
from viaduct_console.main import run


class Viaduct:
    """The command, as an operator of a place runs it; a thread stands for the process."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def __call__(self, *words: str) -> tuple[int, str, str]:
        out, err = StringIO(), StringIO()
        arguments = [*words, "--url", self._url]
        consoles = (Console(file=out, width=160), Console(file=err, width=160))
        status = await asyncio.to_thread(run, arguments, *consoles)
        return status, out.getvalue(), err.getvalue()

    async def json(self, *words: str) -> Any:
        status, out, err = await self(*words)
        assert status == 0, err
        return json.loads(out)


@pytest.fixture
def viaduct(place: Place, manager: Service) -> Viaduct:
    return Viaduct(place.amqp_url())


async def test_a_request_is_answered_in_json(viaduct: Viaduct) -> None:
    """And the same message id gets the first answer again."""
    words = ("request", "zone.create", json.dumps({"name": f"z-{uuid4()}"}), "--message-id", str(uuid4()))

    first = await viaduct.json(*words)

    assert first == await viaduct.json(*words)
    assert first == await viaduct.json("request", "zone.get", json.dumps({"uuid": first["uuid"]}))


async def test_a_refusal_has_its_code_and_exit_status_1(viaduct: Viaduct) -> None:
    """On standard error, so that a pipe sees nothing."""
    status, out, err = await viaduct("request", "zone.get", json.dumps({"uuid": str(uuid4())}))

    assert (status, out) == (1, "")
    assert err.startswith("NOT_FOUND: ")


async def test_status_and_operation_show_what_the_manager_knows(viaduct: Viaduct, client: ViaductClient) -> None:
    """A host that has never spoken, and an attach that it was left out of."""
    zone = await client.zone.create(name=f"z-{uuid4()}")
    cluster = await client.cluster.create(zone_uuid=zone.uuid, name="racks")
    await client.host.create(cluster_uuid=cluster.uuid, name="silent")
    network = await client.l2.create(
        zone_uuid=zone.uuid, name="blue", type="L2VlanNetwork", physical_interface="eth1", vlan=10
    )
    operation = await client.l2.attach(l2_network_uuid=network.uuid, cluster_uuid=cluster.uuid)

    _, shown, _ = await viaduct("status")
    _, steps, _ = await viaduct("operation", str(operation.uuid))

    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "silent racks connecting never 0 of 1" in lines
    assert "blue L2VlanNetwork eth1 vlan 10 br_eth1_10 racks silent pending" in lines
    assert "l2.attach blue / racks succeeded" in " ".join(steps.split())
    assert "skipped" in steps
    status = await viaduct.json("status", "-o", "json")
    assert {one["name"] for one in status["l2Networks"]} == {"blue"}


async def test_a_wrong_password_is_told_from_an_absent_broker(place: Place) -> None:
    """It is the user who must look, not the network."""
    url = place.amqp_url(password="wrong")

    status, _, err = await Viaduct(url)("status")

    assert status == 1
    assert "lets user 'viaduct-operator' not in" in err
    assert "wrong" not in err
