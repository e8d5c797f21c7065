"""A link that was parsed before is not parsed again; whatever matters about it is seen all the same."""

import struct
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from viaduct_agent.links import encode, kinds, parse
from viaduct_agent.links.addresses import NOTHING, Address, Inet
from viaduct_agent.links.entries import Forwarding
from viaduct_agent.links.linkmemory import LinkMemory
from viaduct_agent.links.model import Link
from viaduct_agent.links.parse import _parse, _useless, parse_link
from viaduct_agent.links.rawlink import RawLink

MTU, PARENT, MASTER, LINKINFO, ALIAS, STATS, NETNSID, AF_SPEC, CARRIER_CHANGES = 4, 5, 10, 18, 20, 23, 37, 26, 35
KIND, DATA, SLAVE_KIND, SLAVE_DATA = 1, 2, 4, 5
FORWARD_DELAY, HELLO_TIMER, STP = 1, 16, 5

numbers = st.integers(0, 3)


def body(index: int, *parts: bytes, flags: int = 1) -> bytes:
    return struct.pack("=BxHiII", 0, 1, index, flags, 0) + b"".join(parts)


def bridge_info(delay: int, timer: int, stp: int) -> bytes:
    data = (
        encode.number(FORWARD_DELAY, delay),
        encode.number(STP, stp),
        encode.attribute(HELLO_TIMER, struct.pack("=Q", timer) * 8),
    )
    return encode.nested(LINKINFO, encode.text(KIND, "bridge"), encode.nested(DATA, *data))


def port_info(isolated: int, timer: int) -> bytes:
    options = kinds.PORT.option("isolated").number
    data = encode.attribute(30, struct.pack("=Q", timer) * 8), encode.attribute(options, bytes([isolated]))
    return encode.nested(
        LINKINFO, encode.text(KIND, "veth"), encode.text(SLAVE_KIND, "bridge"), encode.nested(SLAVE_DATA, *data)
    )


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Few values each, in any order: many differ in one place, are as long, or have their pieces elsewhere."""
    parts = [encode.text(3, draw(st.sampled_from(["a", "eth0", "eth12", "longer"])))]
    optional = [
        st.builds(encode.number, st.just(MTU), numbers),
        st.builds(encode.number, st.just(PARENT), numbers),
        st.builds(encode.number, st.just(MASTER), numbers),
        st.builds(encode.number, st.just(NETNSID), numbers),
        st.builds(encode.number, st.just(CARRIER_CHANGES), numbers),
        st.builds(lambda text: encode.text(ALIAS, text), st.sampled_from(["x", "longer text", "longer tex2"])),
        st.builds(bridge_info, numbers, numbers, numbers),
        st.builds(port_info, st.integers(0, 1), numbers),
        st.builds(lambda value: encode.attribute(STATS, struct.pack("=Q", value) * 25), numbers),
        st.builds(lambda value, size: encode.attribute(AF_SPEC, bytes([value]) * size), numbers, st.integers(20, 60)),
    ]
    parts += [draw(part) for part in draw(st.permutations(optional)) if draw(st.booleans())]
    return body(draw(st.integers(1, 2)), *parts, flags=draw(st.integers(0, 1)))


@given(st.lists(bodies(), max_size=30), st.integers(1, 10))
def test_what_is_remembered_is_what_would_be_parsed(seen: list[bytes], most: int) -> None:
    memory = LinkMemory(_useless, most)
    for one in seen:
        found = memory.find(one)
        assert found is None or found == _parse(one)
        if found is None:
            memory.keep(one, _parse(one))
            assert memory.find(one) == _parse(one)


@given(bodies())
def test_counters_and_timers_make_no_new_link(one: bytes) -> None:
    first = parse_link(one)
    for start, end in _useless(one):
        if end - start >= 32:
            one = one[:start] + bytes(255 - byte for byte in one[start:end]) + one[end:]
    assert parse_link(one) is first


def test_the_timers_of_a_bridge_are_left_out_and_its_options_are_not() -> None:
    one, later, other = (body(7, bridge_info(*values)) for values in ((0, 1, 0), (0, 2, 0), (5, 2, 0)))
    assert parse_link(later) is parse_link(one)
    assert parse_link(other).link.option("forward_delay") == 5


def test_no_more_links_are_remembered_than_allowed() -> None:
    memory = LinkMemory(_useless, most=3)
    several = [body(index) for index in range(1, 20)]
    for one in several:
        memory.keep(one, _parse(one))
        assert sum(memory.find(kept) is not None for kept in several) <= 3


def test_a_link_is_shown_anew_only_when_something_about_it_changed() -> None:
    raw = RawLink(Link("a", index=3), 0, 0)
    entry = Forwarding("02:00:00:00:00:01", "10.0.0.1")
    first = raw.shown("br", None, None, NOTHING, [entry])
    assert raw.shown("br", None, None, NOTHING, [entry]) is first
    assert (first.master, first.addresses, first.inet, first.entries) == ("br", (), NOTHING, {entry})
    assert raw.shown("br", None, None, NOTHING, []).entries == frozenset()
    assert raw.shown("br", None, None, NOTHING).entries is None
    assert raw.shown("br", None, ("10.0.0.1/8",)).addresses == ("10.0.0.1/8",)
    assert raw.shown(None, "below").parent == "below"


def test_the_time_left_to_an_address_is_never_remembered() -> None:
    raw = RawLink(Link("a", index=3), 0, 0)

    def seconds(value: int | None) -> int | None:
        inet = Inet((Address("10.0.0.1", 8, valid_seconds=value),))
        (thing,) = (raw.shown(None, None, None, inet).inet or NOTHING).things
        assert isinstance(thing, Address)
        return thing.valid_seconds

    assert [seconds(5), seconds(4), seconds(None)] == [5, 4, None]


@given(st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=9)), max_size=6), st.integers(0, 7))
def test_what_one_datagram_brings_of_a_dump(sent: Sequence[tuple[int, bytes]], end: int) -> None:
    """The messages of its number up to its end, as `messages` tells them."""
    data = b"".join(
        (struct.pack("=IHHII", 16 + len(content), 3 if at == end else 16, 2, sequence, 0) + content).ljust(
            (19 + len(content)) & ~3, b"\0"
        )
        for at, (sequence, content) in enumerate(sent)
    )
    expected = [message for message in parse.messages(data) if message.sequence == 1]
    done = next((at for at, message in enumerate(expected) if message.kind == parse.NLMSG_DONE), None)
    found: list[bytes] = []
    _, last = parse.gather(data, 1, found)
    assert found == [message.body for message in expected[:done]]
    assert last == (None if done is None else expected[done])
