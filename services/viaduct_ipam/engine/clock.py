"""The database's time, told without asking it each time: the processes of a fleet may disagree, it never does."""

from datetime import UTC, datetime, timedelta

from viaduct_common.postgres.pool import Connection


class DatabaseClock:
    """Our clock, corrected by what it was off at the last `set`."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    async def set(self, connection: Connection) -> None:
        before = datetime.now(UTC)
        theirs: datetime = await connection.fetchval("SELECT clock_timestamp()")
        self._ahead = theirs - (before + (datetime.now(UTC) - before) / 2)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead
