"""Which reply addresses may be published to."""

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viaduct_common.bus.replyaddress import is_reply_address

PREFIX = "amq.rabbitmq.reply-to."
TERM = b"\x83Xw\x08reply@12" + struct.pack(">III", 1, 0, 0)


def address(term: bytes, key: str = "a2V5") -> str:
    return f"{PREFIX}{base64.b64encode(term).decode()}.{key}"


@given(name=st.text(max_size=40).filter(lambda name: not name.startswith(PREFIX)))
def test_queue_may_have_any_name(name: str) -> None:
    """The broker drops what no queue takes."""
    assert is_reply_address(name)


def test_pid_as_the_broker_makes_it_is_taken() -> None:
    """With an old or a new kind of pid and atom."""
    assert is_reply_address(address(TERM))
    assert is_reply_address(address(b"\x83gd\x00\x08reply@12" + struct.pack(">IIB", 1, 0, 0)))


@pytest.mark.parametrize("end", range(len(TERM)))
def test_pid_that_is_cut_short_is_refused(end: int) -> None:
    """The broker would close the connection of whoever answers."""
    assert not is_reply_address(address(TERM[:end]))
    assert not is_reply_address(address(TERM + b"x"))


def test_pid_of_a_node_that_is_no_hash_is_refused() -> None:
    """The broker takes it for a number."""
    assert not is_reply_address(address(TERM.replace(b"reply@12", b"reply@aa")))


@given(junk=st.text(max_size=60))
def test_junk_is_refused(junk: str) -> None:
    """No text by chance is a pid."""
    assert not is_reply_address(PREFIX + junk)
    assert not is_reply_address(f"{PREFIX}{junk}.a2V5")
