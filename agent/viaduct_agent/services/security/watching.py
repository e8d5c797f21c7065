"""That somebody has changed rules: nftables tells of every transaction (NFNLGRP_NFTABLES of linux/nfnetlink.h)."""

import asyncio
import socket
from collections.abc import AsyncIterator

from viaduct_agent.links.netlink import Netlink
from viaduct_agent.links.watch import readable

_NETLINK_NETFILTER, _NFNLGRP_NFTABLES = 12, 7
_COALESCE_SECONDS = 0.1  # a transaction of a thousand rules is a thousand messages
_DATAGRAM_BYTES = 64 * 1024


async def transactions(netlink: Netlink) -> AsyncIterator[None]:
    """Yield after transactions in this namespace, whoever made them, those of 100 ms together; for ever.

    Raises:
        OSError: this kernel does not tell.
    """
    sock = await netlink.run(_open)
    try:
        while True:
            await readable(sock)
            await asyncio.sleep(_COALESCE_SECONDS)
            _drain(sock)
            yield
    finally:
        sock.close()


def _open() -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _NETLINK_NETFILTER)
    try:
        sock.bind((0, 1 << (_NFNLGRP_NFTABLES - 1)))
    except OSError:
        sock.close()
        raise
    return sock


def _drain(sock: socket.socket) -> None:
    """What it says does not matter, only that it did; messages that were lost (ENOBUFS) say as much."""
    while True:
        try:
            sock.recv(_DATAGRAM_BYTES)
        except BlockingIOError:
            return
        except OSError:
            continue
