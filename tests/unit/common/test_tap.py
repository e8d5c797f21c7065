"""Bytes from the broker find their way, in whatever pieces they come."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from viaduct_common.bus import frames
from viaduct_common.bus.envelope import Outgoing
from viaduct_common.bus.failures import Unroutable
from viaduct_common.bus.publisher import Publisher
from viaduct_common.bus.tap import Tap

TAPPED, OTHER = 3, 4


class Inbox:
    def __init__(self) -> None:
        self.seen: list[object] = []

    def on_message(self, method: bytes, header: bytes, body: bytes) -> None:
        self.seen.append((method[:4], body))

    def on_confirm(self, method: bytes) -> None:
        self.seen.append(frames.confirm(method))

    def on_lost(self, error: BaseException | None) -> None:
        self.seen.append(error)


def delivered(channel: int, *parts: bytes) -> bytes:
    method = commands.Basic.Deliver("c", 1, False, "", "k")
    header = ContentHeader(body_size=sum(map(len, parts)))
    return b"".join(frame.marshal(one, channel) for one in (method, header, *map(ContentBody, parts)))


def heartbeat() -> bytes:
    return frame.marshal(Heartbeat(), 0)


class Tapped:
    """A tap with one inlet and no connection; what it passes on is in `passed`."""

    def __init__(self, tapped: bool = True) -> None:
        self.loop = asyncio.new_event_loop()
        self.reader = asyncio.StreamReader(loop=self.loop)
        self.tap = Tap(self.reader, self.loop)
        self.inbox = Inbox()
        if tapped:
            self.tap.open(TAPPED, self.inbox)

    def passed(self) -> bytes:
        self.reader.feed_eof()
        try:
            return self.loop.run_until_complete(self.reader.read())
        finally:
            self.loop.close()


OURS = (
    delivered(TAPPED, b"one", b"", b"two"),
    delivered(TAPPED),
    frame.marshal(commands.Basic.Ack(7, True), TAPPED),
    frame.marshal(commands.Basic.Nack(8, False), TAPPED),
)
THEIRS = (
    delivered(OTHER, b"other"),
    frame.marshal(commands.Basic.Ack(9), OTHER),
    frame.marshal(commands.Channel.Close(404, "gone", 0, 0), TAPPED),
    frame.marshal(commands.Basic.ConsumeOk("c"), TAPPED),
)
SEEN: dict[bytes, object] = {
    OURS[0]: (frames.DELIVER, b"onetwo"),
    OURS[1]: (frames.DELIVER, b""),
    OURS[2]: (7, True),
    OURS[3]: (8, False),
}


@given(pieces=st.lists(st.sampled_from([*OURS, *THEIRS]), max_size=12), cuts=st.lists(st.integers(1, 60), max_size=40))
def test_messages_go_to_the_inlet_and_the_rest_to_aiormq(pieces: list[bytes], cuts: list[int]) -> None:
    """Every frame once, in order, wherever the stream is cut."""
    tapped, data = Tapped(), b"".join(pieces)
    for cut in cuts:
        tapped.tap.data_received(data[:cut])
        data = data[cut:]
    tapped.tap.data_received(data)

    assert tapped.inbox.seen == [SEEN[piece] for piece in pieces if piece in OURS]
    # Heartbeats may stand between them: see the next test.
    assert tapped.passed().replace(heartbeat(), b"") == b"".join(piece for piece in pieces if piece in THEIRS)


def test_aiormq_hears_that_a_broker_is_alive_that_sends_nothing_but_messages() -> None:
    """Such a broker sends no heartbeats, and after three that are missing aiormq gives the connection up."""
    tapped = Tapped()
    for _ in range(100):
        tapped.tap.data_received(OURS[0])
    assert tapped.passed() == heartbeat()


@pytest.mark.parametrize("data", [b"AMQP\x00\x00\x09\x01", b"HTTP/1.1 400 Bad Request\r\n"])
def test_what_is_no_amqp_is_left_to_aiormq(data: bytes) -> None:
    """It says what is wrong."""
    tapped = Tapped(tapped=False)
    tapped.tap.data_received(data)
    assert tapped.passed() == data


# ---- the book of confirms ----------------------------------------------------------------------------------------


class Line:
    """A publisher on a tap without a connection."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.tap = Tap(asyncio.StreamReader(), loop)
        self.publisher = Publisher(self.tap, TAPPED, 4096, "app", lambda *_: None)
        self.tap.open(TAPPED, self.publisher)
        self.deadline = loop.time() + 5

    async def start(self, *messages: Outgoing) -> "list[asyncio.Task[None]]":
        tasks = [asyncio.create_task(self.publisher.publish(one, self.deadline)) for one in messages]
        await asyncio.sleep(0)
        return tasks

    def hear(self, *said: object) -> None:
        self.tap.data_received(b"".join(frame.marshal(one, TAPPED) for one in said))  # type: ignore[arg-type]


def some(count: int) -> list[Outgoing]:
    return [Outgoing("x", "k", "t", b"{}") for _ in range(count)]


async def test_one_confirm_for_many_and_a_nack_of_one() -> None:
    """Each publish hears its own."""
    line = Line()
    tasks = await line.start(*some(4))
    line.hear(commands.Basic.Nack(2), commands.Basic.Ack(3, True))
    one, two, three = await asyncio.gather(*tasks[:3], return_exceptions=True)

    assert (one, type(two), three) == (None, ConnectionError, None)
    assert not tasks[3].done()
    line.hear(commands.Basic.Ack(4))
    await tasks[3]


async def test_returned_message_is_found_by_its_id_and_its_ack_confirms_nobody_else() -> None:
    """The broker returns it, then acks it."""
    line = Line()
    messages = some(2)
    tasks = await line.start(*messages)
    returned = commands.Basic.Properties(message_id=str(messages[0].message_id))
    line.hear(
        commands.Basic.Return(312, "NO_ROUTE", "x", "k"), ContentHeader(body_size=0, properties=returned),
        commands.Basic.Ack(1),
    )  # fmt: skip
    with pytest.raises(Unroutable):
        await tasks[0]
    assert not tasks[1].done()
    line.hear(commands.Basic.Ack(2))
    await tasks[1]


async def test_lost_channel_ends_all_that_is_under_way_and_all_that_comes() -> None:
    """None hangs until its deadline."""
    line = Line()
    tasks = await line.start(*some(3))
    line.publisher.on_lost(OSError("cut"))
    results = await asyncio.gather(*tasks, *await line.start(*some(1)), return_exceptions=True)
    assert [type(result) for result in results] == [ConnectionError] * 4


async def test_publisher_that_gave_up_disturbs_no_other() -> None:
    """A confirm that comes after its publish was cancelled, or its time was up, is for nobody."""
    line = Line()
    first, second, third = await line.start(*some(3))
    first.cancel()
    line.deadline = 0
    (late,) = await line.start(*some(1))
    with pytest.raises(TimeoutError):
        await late
    line.hear(commands.Basic.Ack(4, True))
    await asyncio.gather(second, third)
    assert first.cancelled()
