"""To the broker, and quickly to a plain message if there is none."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from yarl import URL

from viaduct_common.bus import BusError
from viaduct_common.client import ViaductClient

AMQP_PORTS = {"amqp": 5672, "amqps": 5671}
TCP_SECONDS = 5.0
LOGIN_SECONDS = 8.0


class NoBroker(Exception):
    """There is no way to the control plane; the text says why, and what to look at."""


@asynccontextmanager
async def connected(url: str | None, *, timeout_seconds: float) -> AsyncIterator[ViaductClient]:
    """A client that is connected.

    Raises:
        NoBroker: it cannot be.
    """
    address = _address(url)
    await _knock(address)
    where = f"{address.host}:{address.port}{address.path}"
    client = ViaductClient(str(address), name="viaduct-cli", timeout_seconds=timeout_seconds)
    try:
        async with asyncio.timeout(LOGIN_SECONDS):
            await client.__aenter__()
    except (TimeoutError, BusError) as error:
        raise NoBroker(
            f"the broker at {where} lets user {address.user!r} not in: are the user, the password and the vhost right?"
        ) from error
    try:
        yield client
    finally:
        await client.__aexit__(None, None, None)


def _address(url: str | None) -> URL:
    if not url:
        raise NoBroker(
            "which broker? Give --url, or set VIADUCT_AMQP_URL; the local stack's is in a file: set -a; . .run/env"
        )
    try:
        address = URL(url)
    except ValueError as error:
        raise NoBroker(f"the URL of the broker is none: {error}") from error
    if address.scheme not in AMQP_PORTS or not address.host:
        raise NoBroker("the URL of the broker must be like amqp://user:password@host:5672/viaduct")
    return address if address.port else address.with_port(AMQP_PORTS[address.scheme])


async def _knock(address: URL) -> None:
    """See whether anybody listens, before a client begins to try again and again."""
    try:
        async with asyncio.timeout(TCP_SECONDS):
            _, writer = await asyncio.open_connection(address.host, address.port)
    except TimeoutError:
        raise NoBroker(f"no answer from {address.host}:{address.port} in {TCP_SECONDS:.0f} s") from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise NoBroker(f"no broker at {address.host}:{address.port}: {reason}") from None
    writer.close()
