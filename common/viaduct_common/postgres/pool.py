"""A pool whose sessions cannot hang, and one translation of its failures."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple, TypeAlias

import asyncpg
import structlog
from pydantic_core import to_json

from viaduct_common.bus.envelope import Outgoing
from viaduct_common.bus.failures import StoreUnavailable

log = structlog.get_logger()

# A dead process frees its locks after ten seconds, and no statement waits for ever (PostgreSQL 15, §20.11). Statements
# are short and many: to compile one takes longer than to run it.
SESSION_SETTINGS = {
    "jit": "off",
    "statement_timeout": "15s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "20s",
    "timezone": "UTC",
}

Connection: TypeAlias = asyncpg.pool.PoolConnectionProxy | asyncpg.Connection
Pool: TypeAlias = asyncpg.Pool


class Letter(NamedTuple):
    """A message in the outbox, and the number of its row; no message for one that is left to the relay."""

    number: int
    message: Outgoing | None


class Post:
    """Where a pool's transactions leave what they have written to the outbox, once it is committed.

    Without a `deliver` it stays there until a relay looks.
    """

    deliver: Callable[[Sequence[Letter]], None] | None = None


class Session(asyncpg.Connection):  # type: ignore[misc]
    """A connection that knows what its transaction wrote to the outbox."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.post = Post()
        self.letters: list[Letter] = []


# The pool's own reset stays on, though it is a round trip: it is what finds a connection that died in the middle of
# something, and keeps it from the next one who asks.
_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that is in the middle of something else
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.QueryCanceledError,  # it took longer than statement_timeout
)


@contextmanager
def store_failures() -> Iterator[None]:
    """Translate "the database is away, or was for a moment" into StoreUnavailable; all else stays what it is."""
    try:
        yield
    except _AWAY as error:
        raise StoreUnavailable(repr(error)) from error


@asynccontextmanager
async def open_pool(
    url: str,
    application_name: str,
    *,
    max_size: int = 10,
    patience_seconds: float = 300.0,
    post: Post | None = None,
) -> AsyncIterator[Pool]:
    """A pool of connections. The first is made at once; a database that is still starting is waited for.

    Args:
        post: of the process's outbox relay, if messages are to be sent as soon as they are committed.

    Raises:
        StoreUnavailable: no database answered at the URL within the patience.
    """
    pool = await _connect(url, application_name, max_size, patience_seconds, post or Post())
    try:
        yield pool
    finally:
        await close_pool(pool)


async def _connect(url: str, application_name: str, max_size: int, patience_seconds: float, post: Post) -> Pool:
    async def set_up(session: Session) -> None:
        session.post = post
        await _speak_json(session)

    give_up = time.monotonic() + patience_seconds
    while True:
        try:
            with store_failures():
                return await asyncpg.create_pool(
                    url,
                    min_size=1,
                    max_size=max_size,
                    command_timeout=20,
                    timeout=10,
                    server_settings={"application_name": application_name, **SESSION_SETTINGS},
                    init=set_up,
                    connection_class=Session,
                )
        except StoreUnavailable as error:
            if time.monotonic() > give_up:
                raise
            log.warning("database_not_there_yet", reason=str(error))
            await asyncio.sleep(1)


async def _speak_json(connection: asyncpg.Connection) -> None:
    """jsonb columns are Python values on our side, not text."""
    await connection.set_type_codec(
        "jsonb", encoder=lambda value: to_json(value).decode(), decoder=json.loads, schema="pg_catalog"
    )


async def close_pool(pool: Any) -> None:
    """Close in order, but never hang on a database that has gone away."""
    try:
        async with asyncio.timeout(5):
            await pool.close()
    except TimeoutError:
        pool.terminate()


@asynccontextmanager
async def single_statements(pool: Pool) -> AsyncIterator[Connection]:
    """One connection whose statements are a transaction each: for a look whether there is something to do at all.

    Raises:
        StoreUnavailable: the database is away.
    """
    with store_failures():
        async with pool.acquire(timeout=10) as connection:
            yield connection


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    """One connection in one READ COMMITTED transaction. What it wrote to the outbox is sent when it is committed.

    Raises:
        StoreUnavailable: the database is away; the transaction is not committed, or its outcome is unknown.
    """
    with store_failures():
        async with pool.acquire(timeout=10) as connection:
            connection.letters.clear()
            async with connection.transaction():
                yield connection
            if connection.letters and connection.post.deliver is not None:
                connection.post.deliver(tuple(connection.letters))
