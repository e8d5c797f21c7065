"""What the broker is told of deliveries is what became of them, however few words it takes."""

from hypothesis import given
from hypothesis import strategies as st

from viaduct_common.bus.settling import Settled


@given(data=st.data(), count=st.integers(0, 25))
def test_broker_never_takes_for_done_what_is_not(data: st.DataObject, count: int) -> None:
    """In whatever order they end, one way or the other, and whenever it is said."""
    open_at_broker, done, settled = set(range(1, count + 1)), set[int](), Settled()
    for tag in data.draw(st.permutations(range(1, count + 1))):
        if data.draw(st.booleans()):
            settled.rejected(tag)
            open_at_broker.discard(tag)  # said at once
        else:
            settled.ack(tag)
            done.add(tag)
        if data.draw(st.booleans()):
            say(settled, open_at_broker, done)
    say(settled, open_at_broker, done)

    assert not open_at_broker


def say(settled: Settled, open_at_broker: set[int], done: set[int]) -> None:
    """As a broker hears it: a tag that it does not know is an error of the channel."""
    for last, multiple in settled.acks():
        assert last in open_at_broker
        meant = {tag for tag in open_at_broker if tag == last or (multiple and tag < last)}
        assert meant <= done
        open_at_broker -= meant


def test_many_that_end_in_order_are_one_ack() -> None:
    """That is the common case, and what it is for."""
    settled = Settled()
    assert [settled.ack(tag) for tag in range(1, 65)] == [True] + [False] * 63
    assert settled.acks() == [(64, True)]


def test_one_that_runs_long_keeps_its_own() -> None:
    """Those after it are acked one by one until it has ended."""
    settled = Settled()
    settled.ack(2)
    settled.ack(3)
    assert settled.acks() == [(2, False), (3, False)]
    settled.ack(1)
    settled.ack(4)
    assert settled.acks() == [(4, True)]
