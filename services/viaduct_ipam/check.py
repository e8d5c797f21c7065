"""`viaduct-ipam-check`: do the rows, bitmaps and counters of a database tell the same? For operators, after a restore
or a suspicion. It reads, and may run beside the service."""

import asyncio
import sys

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from viaduct_common.bus import StoreUnavailable
from viaduct_common.postgres.pool import open_pool, store_failures
from viaduct_common.settings import read_settings
from viaduct_ipam.store.audit import findings

NAME = "viaduct-ipam-check"
# Instead of those of the services' sessions: this is one long read.
_PATIENCE = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"


class CheckSettings(BaseSettings):
    """The same variable as the service's."""

    model_config = SettingsConfigDict(env_prefix="VIADUCT_", frozen=True)

    postgres_url: str = Field(repr=False)


async def check(postgres_url: str) -> int:
    """Print what contradicts itself, a line each; return how much that is.

    Raises:
        StoreUnavailable: the database is away.
    """
    count = 0
    async with open_pool(postgres_url, NAME, max_size=1, patience_seconds=0) as pool:
        with store_failures():
            async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.execute(_PATIENCE)
                async for finding in findings(connection):
                    print(f"range {finding.range_uuid}: {finding.problem}", flush=True)
                    count += 1
    return count


def main() -> None:
    """Exits with 0 if all is well, 1 if something contradicts itself, 2 if there is no telling."""
    settings = read_settings(CheckSettings, NAME, "Compares the rows, bitmaps and counters of Viaduct's IPAM.")
    try:
        count = asyncio.run(check(settings.postgres_url))
    except StoreUnavailable as error:
        print(f"{NAME}: the database is away: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{NAME}: {count} problems" if count else f"{NAME}: all is well", file=sys.stderr)
    sys.exit(1 if count else 0)


if __name__ == "__main__":
    main()
