"""The bus through a bad network: nothing is lost, nothing hangs beyond its time."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from uuid import uuid4

import pytest
from contract.plain import Plain
from integration.bus.proxy import Proxy
from integration.manager.conftest import eventually
from integration.manager.control_plane import Place

from local_stack.service import Service
from viaduct_common import topology
from viaduct_common.bus import Bus, BusError, Delivery, GiveBack, Outgoing, PublishFailed, RequestServer, Unroutable
from viaduct_common.errors import DeadlineExceeded
from viaduct_common.messages.ipam import GetIp
from viaduct_common.messages.zone import CreateZone, GetZone, QueryZones, ZoneFilters
from viaduct_common.roles import RolePolicy


@pytest.fixture
async def queue(place: Place, straight: Bus) -> str:
    """A fresh queue on the exchange of commands; its name is its routing key."""
    name = f"viaduct.agent.{uuid4()}"
    await straight.declare_queue(name, {}, topology.COMMANDS, [name])
    return name


def message(queue: str, body: bytes = b"{}", exchange: str = topology.COMMANDS) -> Outgoing:
    return Outgoing(exchange, queue, "test", body)


@dataclass
class Inbox:
    """Takes in bodies; `fails` says what to raise for which."""

    bodies: list[bytes] = field(default_factory=list)
    fails: dict[bytes, BaseException] = field(default_factory=dict)
    wait: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.wait.set()

    async def handle(self, delivery: Delivery) -> None:
        self.bodies.append(delivery.body)
        await self.wait.wait()
        if delivery.body in self.fails:
            raise self.fails[delivery.body]

    async def has(self, *bodies: bytes, seconds: float = 20) -> None:
        await eventually(lambda: asyncio.sleep(0, set(self.bodies)), lambda seen: seen >= set(bodies), seconds=seconds)


@asynccontextmanager
async def consuming(bus: Bus, queue: str, *, held: bool = False, **options: float) -> AsyncIterator[Inbox]:
    """With `held` nothing ends before `wait` is set; messages come as soon as it is open."""
    inbox = Inbox()
    if held:
        inbox.wait.clear()
    async with bus.consume(queue, inbox.handle, **options):  # type: ignore[arg-type]
        yield inbox


# ---- publishing --------------------------------------------------------------------------------------------------


async def test_what_no_queue_takes_raises_unroutable(bus: Bus) -> None:
    """By any exchange; and the connection goes on."""
    for exchange in (topology.COMMANDS, topology.DEFAULT_EXCHANGE):
        with pytest.raises(Unroutable):
            await bus.publish(message("nobody", exchange=exchange))
    assert bus.connected


async def test_of_many_in_flight_only_the_unroutable_are_returned(bus: Bus, queue: str) -> None:
    """Each return finds its own publish."""
    keys = [queue if number % 3 else "nobody" for number in range(60)]
    results = await asyncio.gather(*(bus.publish(message(key)) for key in keys), return_exceptions=True)

    assert [isinstance(result, Unroutable) for result in results] == [key == "nobody" for key in keys]


async def test_unroutable_that_is_not_mandatory_is_no_error(bus: Bus) -> None:
    """An event that nobody listens to."""
    await bus.publish(Outgoing(topology.EVENTS, "x", "x", b"{}", mandatory=False))


async def test_nacked_publish_raises_and_the_next_succeeds(place: Place, straight: Bus, bus: Bus) -> None:
    """A queue that is full refuses; when it has room again it takes."""
    name = f"full.{uuid4()}"
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    await straight.declare_queue(name, arguments, topology.COMMANDS, [name])
    await bus.publish(message(name))
    with pytest.raises(PublishFailed):
        await bus.publish(message(name))
    await place.api("DELETE", f"/queues/{{vhost}}/{name}/contents")
    await bus.publish(message(name))


async def test_publish_to_an_exchange_that_does_not_exist_fails_and_harms_nothing(bus: Bus, queue: str) -> None:
    """The channel is closed by the broker; the bus has another."""
    with pytest.raises(PublishFailed):
        await bus.publish(message(queue, exchange="nowhere"), timeout_seconds=3)
    await bus.publish(message(queue))


@pytest.mark.parametrize("swallow", [False, True])
async def test_confirm_that_does_not_come_in_time_raises(bus: Bus, proxy: Proxy, queue: str, swallow: bool) -> None:
    """Whether the broker is slow or the line is dead."""
    proxy.swallowing = swallow
    if not swallow:
        proxy.stall()
    started = time.monotonic()
    with pytest.raises(PublishFailed):
        await bus.publish(message(queue), timeout_seconds=0.5)
    assert time.monotonic() - started < 1.5
    proxy.swallowing = False
    proxy.flow()
    if not swallow:
        await bus.publish(message(queue))


async def test_publish_survives_cuts(bus: Bus, proxy: Proxy, queue: str, straight: Bus) -> None:
    """Whoever publishes again after a failure gets everything through."""
    bodies = [str(number).encode() for number in range(300)]

    async def publish(body: bytes) -> None:
        while True:
            try:
                return await bus.publish(message(queue, body))
            except PublishFailed:
                await asyncio.sleep(0.01)

    async with consuming(straight, queue) as inbox:
        work = asyncio.gather(*(publish(body) for body in bodies))
        for _ in range(4):
            await asyncio.sleep(0.1)
            proxy.cut()
        await work
        await inbox.has(*bodies)


async def test_publish_waits_for_a_broker_that_is_away_up_to_its_time(bus: Bus, proxy: Proxy, queue: str) -> None:
    """Then it says so; when the broker is back, it succeeds."""
    proxy.refusing = True
    proxy.cut()
    with pytest.raises(PublishFailed):
        await bus.publish(message(queue), timeout_seconds=0.7)
    waiting = asyncio.create_task(bus.publish(message(queue)))
    await asyncio.sleep(0.3)
    assert not bus.connected
    proxy.refusing = False
    await waiting


async def test_ready_tells_why_it_is_not(place: Place) -> None:
    """A wrong password is in the message, and no password is."""
    url = place.amqp_url("viaduct-operator", "wrong-secret")
    async with Bus(url, name="stranger") as bus:
        with pytest.raises(BusError, match="ACCESS_REFUSED") as refusal:
            await bus.ready(2)
    assert "wrong-secret" not in str(refusal.value)


# ---- consuming ---------------------------------------------------------------------------------------------------


async def test_consumer_survives_cuts(bus: Bus, proxy: Proxy, queue: str, straight: Bus) -> None:
    """After any number of reconnects it consumes, and nothing was lost."""
    async with consuming(bus, queue) as inbox:
        for number in range(6):
            await straight.publish(message(queue, b"%d" % number))
            await asyncio.sleep(0.1)
            proxy.cut()
        await straight.publish(message(queue, b"last"))
        await inbox.has(*(b"%d" % number for number in range(6)), b"last")


async def test_consumer_comes_back_when_its_queue_was_deleted_and_declared_again(
    bus: Bus, queue: str, straight: Bus
) -> None:
    """The broker's cancel is not swallowed."""
    async with consuming(bus, queue) as inbox:
        await straight.delete_queue(queue)
        await asyncio.sleep(0.5)
        await straight.declare_queue(queue, {}, topology.COMMANDS, [queue])
        await straight.publish(message(queue, b"after"))
        await inbox.has(b"after")


async def test_consumer_of_a_queue_that_is_not_there_yet_begins_when_it_is(bus: Bus, straight: Bus) -> None:
    """An agent may be started before its host is registered."""
    name = f"viaduct.agent.{uuid4()}"
    async with consuming(bus, name) as inbox:
        await asyncio.sleep(0.3)
        await straight.declare_queue(name, {}, topology.COMMANDS, [name])
        await straight.publish(message(name, b"first"))
        await inbox.has(b"first")


async def test_consumer_that_was_stalled_gets_what_was_sent_meanwhile(
    bus: Bus, proxy: Proxy, queue: str, straight: Bus
) -> None:
    """Bytes that wait are not bytes that are lost."""
    async with consuming(bus, queue) as inbox:
        proxy.stall()
        await straight.publish(message(queue, b"late"))
        await asyncio.sleep(0.3)
        assert inbox.bodies == []
        proxy.flow()
        await inbox.has(b"late")


async def test_half_open_connection_is_noticed_by_heartbeats(
    place: Place, proxy: Proxy, queue: str, straight: Bus
) -> None:
    """Neither side hears of the break: within about three heartbeats the bus has connections that work."""
    async with Bus(proxy.url(place.amqp_url()), name="half open", heartbeat_seconds=1) as bus:
        await bus.ready()
        async with consuming(bus, queue) as inbox:
            proxy.swallowing = True
            before = proxy.accepted
            await eventually(lambda: asyncio.sleep(0, proxy.accepted), lambda count: count > before)
            proxy.swallowing = False
            proxy.cut()  # what was dialled into the void: its own time-out is a quarter of a minute
            await straight.publish(message(queue, b"again"))
            await inbox.has(b"again", seconds=40)
            await bus.ready()
            await bus.publish(message(queue, b"and out"))
            await inbox.has(b"and out")


async def test_connection_that_is_never_quiet_is_not_taken_for_dead(
    place: Place, proxy: Proxy, queue: str, straight: Bus
) -> None:
    """The broker sends no heartbeats while it sends messages; the connection outlives their time all the same."""
    async with Bus(proxy.url(place.amqp_url()), name="busy", heartbeat_seconds=1) as bus:
        await bus.ready()
        async with consuming(bus, queue) as inbox:
            connections, until = proxy.accepted, time.monotonic() + 9
            while time.monotonic() < until:
                await bus.publish(message(queue))
                await asyncio.sleep(0.02)
            assert len(inbox.bodies) > 100
            assert proxy.accepted == connections


async def test_request_whose_reply_the_broker_refuses_is_not_acked(
    place: Place, bus: Bus, queue: str, straight: Bus
) -> None:
    """The ack comes after the reply's confirm: without one the request comes again, until it is answered."""
    answers, executed = f"full.{uuid4()}", 0
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    await straight.declare_queue(answers, arguments, topology.COMMANDS, [answers])
    await straight.publish(message(answers, b"in the way"))

    async def execute(_request: object, _context: object) -> bytes:
        nonlocal executed
        executed += 1
        return b'{"ok":true,"value":{}}'

    requests = RequestServer(bus, queue, {"zone.get": GetZone}, execute, RolePolicy(anonymous="reader"))
    body = GetZone(uuid=uuid4()).to_json()
    await straight.publish(replace(message(queue, body), type="zone.get", reply_to=answers))
    async with requests:
        await eventually(lambda: asyncio.sleep(0, executed), lambda count: count >= 2)
        await place.api("DELETE", f"/queues/{{vhost}}/{answers}/contents")
        async with consuming(straight, answers) as inbox:
            await inbox.has(b'{"ok":true,"value":{}}')


async def test_every_request_is_answered_through_cuts(bus: Bus, proxy: Proxy, queue: str, straight: Bus) -> None:
    """Wherever the connections are cut, each request is answered, on the first delivery or on another."""
    answers = f"viaduct.agent.{uuid4()}"
    await straight.declare_queue(answers, {}, topology.COMMANDS, [answers])
    asked = [message(queue) for _ in range(400)]

    async def execute(_request: object, _context: object) -> bytes:
        return b'{"ok":true,"value":{}}'

    got: set[str | None] = set()

    async def collect(delivery: Delivery) -> None:
        got.add(delivery.correlation_id)

    requests = RequestServer(bus, queue, {"zone.get": GetZone}, execute, RolePolicy(anonymous="reader"), prefetch=8)
    async with straight.consume(answers, collect), requests:
        body = GetZone(uuid=uuid4()).to_json()
        asked = [replace(one, type="zone.get", body=body, reply_to=answers) for one in asked]
        work = asyncio.gather(*(straight.publish(one) for one in asked))
        for _ in range(5):
            await asyncio.sleep(0.03)
            proxy.cut()
        await work
        everybody = {str(one.message_id) for one in asked}
        await eventually(lambda: asyncio.sleep(0, got), lambda seen: seen >= everybody, seconds=30)


async def test_handler_that_fails_dead_letters_its_message(bus: Bus, queue: str, straight: Bus, place: Place) -> None:
    """Once, and the next one is handled."""
    async with consuming(bus, queue) as inbox, Plain(place.amqp_url()) as plain:
        inbox.fails[b"bad"] = ValueError("boom")
        bad = message(queue, b"bad")
        await straight.publish(bad)
        await straight.publish(message(queue, b"good"))
        await inbox.has(b"good")
        dead = await plain.buried_id(str(bad.message_id))

    assert dead.headers["x-first-death-reason"] == "rejected"
    assert inbox.bodies.count(b"bad") == 1


async def test_given_back_message_comes_again(bus: Bus, queue: str, straight: Bus) -> None:
    """Until it is taken."""
    async with consuming(bus, queue) as inbox:
        inbox.fails[b"not now"] = GiveBack("busy")
        await straight.publish(message(queue, b"not now"))
        await eventually(lambda: asyncio.sleep(0, len(inbox.bodies)), lambda count: count >= 2)
        inbox.fails.clear()
        await asyncio.sleep(0.1)
        seen = len(inbox.bodies)
        await asyncio.sleep(0.2)
        assert len(inbox.bodies) == seen


async def test_stop_finishes_what_runs_and_gives_back_the_rest(bus: Bus, queue: str, straight: Bus) -> None:
    """What was prefetched and not begun, or did not end in time, goes to the next consumer."""
    for number in range(6):
        await straight.publish(message(queue, b"%d" % number))
    async with consuming(bus, queue, held=True, prefetch=3) as inbox:
        await inbox.has(b"0", b"1", b"2")
        asyncio.get_running_loop().call_later(0.2, inbox.wait.set)
    assert sorted(inbox.bodies) == [b"0", b"1", b"2"]
    async with consuming(bus, queue, held=True, prefetch=2, grace_seconds=0.1) as stuck:
        await stuck.has(b"3", b"4")
    async with consuming(straight, queue) as rest:
        await rest.has(b"3", b"4", b"5")
        assert set(rest.bodies) == {b"3", b"4", b"5"}


async def test_consumer_can_be_closed_while_the_broker_is_away(bus: Bus, proxy: Proxy, queue: str) -> None:
    """A stop does not hang on a dead line."""
    started = time.monotonic()
    async with consuming(bus, queue):
        proxy.refusing = True
        proxy.cut()
    assert time.monotonic() - started < 8
    proxy.refusing = False


async def test_callback_runs_at_every_connect(place: Place, proxy: Proxy) -> None:
    """Also at the first."""
    times: list[float] = []

    async def called() -> None:
        times.append(time.monotonic())

    bus = Bus(proxy.url(place.amqp_url()), name="calling")
    bus.on_connect(called)
    async with bus:
        await bus.ready()
        await eventually(lambda: asyncio.sleep(0, len(times)), lambda count: count == 1)
        proxy.cut()
        await eventually(lambda: asyncio.sleep(0, len(times)), lambda count: count == 2)


# ---- calling -----------------------------------------------------------------------------------------------------


async def test_concurrent_calls_get_their_own_answers(bus: Bus, manager: Service) -> None:
    """Two hundred at once, each asking for another."""
    made = await asyncio.gather(*(bus.call(CreateZone(name=f"zone {number}")) for number in range(100)))
    got = await asyncio.gather(*(bus.call(GetZone(uuid=zone.uuid)) for zone in made))

    assert [zone.name for zone in made] == [f"zone {number}" for number in range(100)]
    assert got == made


async def test_calls_survive_cuts_and_are_done_once(bus: Bus, proxy: Proxy, manager: Service) -> None:
    """A lost answer is asked for again under the same message id."""
    name = f"cut {uuid4()}"

    async def create() -> object:
        return (await bus.call(CreateZone(name=name))).uuid

    calls = asyncio.gather(*(create() for _ in range(60)))
    for _ in range(4):
        await asyncio.sleep(0.05)
        proxy.cut()
    uuids = await calls
    page = await bus.call(QueryZones(filters=ZoneFilters(name=name)))
    assert len(set(uuids)) == 60
    assert {zone.uuid for zone in page.items} == set(uuids)


async def test_call_that_nobody_answers_ends_at_its_time(bus: Bus) -> None:
    """IPAM does not run here; the error bears the message id to ask again with."""
    message_id, started = uuid4(), time.monotonic()
    with pytest.raises(DeadlineExceeded) as refusal:
        await bus.call(GetIp(uuid=uuid4()), timeout_seconds=0.5, message_id=message_id)

    assert 0.4 < time.monotonic() - started < 1.5
    assert refusal.value.details["messageId"] == str(message_id)


async def test_call_without_a_queue_does_not_spin(place: Place, bus: Bus) -> None:
    """Nobody takes it: it is tried again now and then, and the process goes on."""
    await place.api("DELETE", "/queues/{vhost}/viaduct.ipam")
    used = time.process_time()
    with pytest.raises(DeadlineExceeded):
        await bus.call(GetIp(uuid=uuid4()), timeout_seconds=1)
    assert time.process_time() - used < 0.6
