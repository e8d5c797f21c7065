"""Peers of tunnelled networks: who has the same network, and the NICs behind them."""

from collections.abc import Iterable
from uuid import UUID

from viaduct_common.postgres.pool import Connection


async def mark_stale(connection: Connection, l2_uuids: Iterable[UUID]) -> None:
    """NICs on these networks came, went or moved: what their hosts know of each other is out of date."""
