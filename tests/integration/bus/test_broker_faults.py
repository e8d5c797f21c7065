"""The broker itself is killed, restarted, out of memory: a broker of this module's own."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from integration.manager.conftest import eventually
from integration.manager.control_plane import Place

from local_stack.broker import Broker
from local_stack.service import Service
from viaduct_common import topology
from viaduct_common.bus import Bus, Delivery, Outgoing, PublishFailed
from viaduct_common.client import ViaductClient
from viaduct_common.errors import DeadlineExceeded

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(Path(tmp_path_factory.mktemp("broker"))) as broker:
        yield broker


@pytest.fixture(scope="module")
async def client(place: Place, manager: Service) -> AsyncIterator[ViaductClient]:
    """With patience for a broker that starts on a busy machine."""
    async with place.client(timeout_seconds=90) as client:
        yield client


@pytest.fixture
async def queue(client: ViaductClient, straight: Bus) -> str:
    name = f"viaduct.agent.{uuid4()}"
    await straight.declare_queue(name, {}, topology.COMMANDS, [name])
    return name


async def watermark(broker: Broker, value: str) -> None:
    await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", value)


async def test_memory_alarm_blocks_publishers_in_their_time_and_passes(
    broker: Broker, place: Place, client: ViaductClient, straight: Bus, queue: str
) -> None:
    """Publishing ends with an error at its deadline, consuming and acking go on, and afterwards all is well."""
    seen: list[bytes] = []

    async def handle(delivery: Delivery) -> None:
        seen.append(delivery.body)

    for number in range(5):
        await straight.publish(Outgoing(topology.COMMANDS, queue, "x", b"%d" % number))
    await watermark(broker, "0.00001")
    try:
        started = time.monotonic()
        with pytest.raises(PublishFailed):
            await straight.publish(Outgoing(topology.COMMANDS, queue, "x", b"blocked"), timeout_seconds=1)
        message_id = uuid4()
        call = asyncio.create_task(client.zone.create(name="during the alarm", message_id=message_id))
        async with place.client(timeout_seconds=1) as hasty:
            with pytest.raises(DeadlineExceeded):
                await hasty.zone.query()
        assert time.monotonic() - started < 8
        async with straight.consume(queue, handle):
            await eventually(lambda: asyncio.sleep(0, len(seen)), lambda count: count >= 5)
    finally:
        await watermark(broker, "0.4")
    zone = await call
    assert await client.zone.create(name="again", message_id=message_id) == zone
    await straight.publish(Outgoing(topology.COMMANDS, queue, "x", b"after"))


@pytest.mark.parametrize("crash", [False, True], ids=["restarted", "killed"])
async def test_calls_across_a_broker_that_goes_are_done_exactly_once(
    broker: Broker, client: ViaductClient, crash: bool
) -> None:
    """The client asks again by itself; the service knows the message id."""
    name = f"zone {uuid4()}"
    calls = [asyncio.create_task(client.zone.create(name=name)) for _ in range(10)]
    await asyncio.sleep(0.005)
    await asyncio.to_thread(broker.kill if crash else broker.stop)
    more = [asyncio.create_task(client.zone.create(name=name)) for _ in range(5)]
    await asyncio.to_thread(broker.start)
    zones = await asyncio.gather(*calls, *more)
    page = await client.zone.query(filters={"name": name})

    assert len({zone.uuid for zone in zones}) == 15
    assert {zone.uuid for zone in page.items} == {zone.uuid for zone in zones}
