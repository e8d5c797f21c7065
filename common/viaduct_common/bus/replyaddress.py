"""Reply addresses that the broker can take.

A direct reply-to address is the broker's own: `amq.rabbitmq.reply-to.<base64 of an Erlang pid>.<key>`. RabbitMQ 3.10
decodes whatever stands there, and closes the publisher's whole connection when it is no pid: a sender who makes one up
would cut off whoever answers him, again and again.
"""

import base64
import binascii
import re
from functools import lru_cache

_PREFIX = "amq.rabbitmq.reply-to."
# External term format (https://www.erlang.org/doc/apps/erts/erl_ext_dist): version 131; NEW_PID_EXT 'X' or PID_EXT
# 'g'; the node's name as an atom with one byte of length ('w') or two ('d', 'v'); then 12 or 9 bytes.
_PID = re.compile(rb"\x83([Xg])(w(.)|[dv](..))", re.DOTALL)
_REST = {b"X": 12, b"g": 9}
# Since 3.10 the node is written as a hash, a number (pid_recomposition, rabbit_nodes_common).
_NODE = re.compile(rb"[^@]+@[0-9]{1,20}")
_KEY = re.compile(r"[A-Za-z0-9+/_=-]+")


@lru_cache(maxsize=1024)  # a client asks from the same address again and again
def is_reply_address(address: str) -> bool:
    """True for a queue's name, and for a direct reply-to address as the broker makes them."""
    if not address.startswith(_PREFIX):
        return True
    pid, _, key = address.removeprefix(_PREFIX).partition(".")
    if not _KEY.fullmatch(key):
        return False
    try:
        term = base64.b64decode(pid, validate=True)
    except (ValueError, binascii.Error):
        return False
    head = _PID.match(term)
    if head is None:
        return False
    node = term[head.end() : head.end() + int.from_bytes(head[3] or head[4], "big")]
    return bool(_NODE.fullmatch(node)) and len(term) == head.end() + len(node) + _REST[head[1]]
