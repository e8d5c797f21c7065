"""The database's time, told without asking it each time: the processes of a fleet may disagree, it never does."""

import time
from datetime import UTC, datetime, timedelta

from viaduct_common.postgres.pool import Connection

GOOD_FOR_SECONDS = 60.0


class DatabaseClock:
    """The database's time at the last look, and what has passed since by a clock that nobody sets."""

    def __init__(self) -> None:
        self._then = datetime.now(UTC)
        self._looked_at = time.monotonic()
        self._is_set = False

    @property
    def is_stale(self) -> bool:
        """Two clocks drift apart: look again."""
        return not self._is_set or time.monotonic() - self._looked_at > GOOD_FOR_SECONDS

    async def set(self, connection: Connection) -> None:
        before = time.monotonic()
        self._then = await connection.fetchval("SELECT clock_timestamp()")
        self._looked_at = (before + time.monotonic()) / 2
        self._is_set = True

    def now(self) -> datetime:
        return self._then + timedelta(seconds=time.monotonic() - self._looked_at)
