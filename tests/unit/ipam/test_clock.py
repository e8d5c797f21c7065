"""The database's time, told by a clock that nobody sets."""

from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock

import pytest

from viaduct_ipam.engine import clock


async def test_time_goes_on_from_the_databases_and_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine's own time is set to; after a minute the database is to be asked again."""
    theirs = datetime(2031, 5, 1, tzinfo=UTC)
    connection: Any = AsyncMock()
    connection.fetchval.return_value = theirs
    passed = [100.0]
    monkeypatch.setattr(clock.time, "monotonic", lambda: passed[0])
    told = clock.DatabaseClock()

    assert told.is_stale
    await told.set(connection)
    assert not told.is_stale
    passed[0] += 59.5
    assert told.now() == theirs + timedelta(seconds=59.5)
    assert not told.is_stale
    passed[0] += 1
    assert told.is_stale
