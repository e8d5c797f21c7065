"""Forward-only migrations: plain SQL files, applied once each, in order, under one lock.

Each file runs in a transaction of its own. Its checksum is kept, so that a file changed after it was applied stops
the start instead of leaving two installations that only look alike. Works in the role's own schema (search_path).
"""

import hashlib
from pathlib import Path

import structlog

from viaduct_common.postgres.pool import Connection, Pool, store_failures

log = structlog.get_logger()

_TABLE = """
    CREATE TABLE IF NOT EXISTS schema_migration (
        name       text PRIMARY KEY,
        checksum   text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )
"""
# Any number of replicas may start at once; the lock is per schema, so services in one database do not wait for
# each other.
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('viaduct migrations of ' || current_schema()))"


class MigrationError(Exception):
    """The database is not what these files would have made of it."""


async def migrate(pool: Pool, *folders: Path) -> list[str]:
    """Apply what is missing of `folders` (files `*.sql`, sorted by name within each); return what was applied.

    Raises:
        MigrationError: a file was changed after it was applied.
        StoreUnavailable: the database is away.
    """
    # Two small folders, read once at the start.
    files = [(file.name, file.read_text()) for folder in folders for file in sorted(folder.glob("*.sql"))]
    applied: list[str] = []
    with store_failures():
        async with pool.acquire() as connection:
            for name, sql in files:
                async with connection.transaction():
                    await connection.execute("SET LOCAL lock_timeout = '60s'; SET LOCAL statement_timeout = '300s'")
                    if await _apply(connection, name, sql):
                        applied.append(name)
    if applied:
        log.info("migrations_applied", files=applied)
    return applied


async def _apply(connection: Connection, name: str, sql: str) -> bool:
    await connection.execute(_LOCK)
    await connection.execute(_TABLE)
    checksum = hashlib.sha256(sql.encode()).hexdigest()
    known = await connection.fetchval("SELECT checksum FROM schema_migration WHERE name = $1", name)
    if known == checksum:
        return False
    if known is not None:
        raise MigrationError(f"{name} was changed after it was applied; add a new file instead")
    await connection.execute(sql)
    await connection.execute("INSERT INTO schema_migration (name, checksum) VALUES ($1, $2)", name, checksum)
    return True
