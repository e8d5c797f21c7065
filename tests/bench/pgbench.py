"""What Postgres itself can do: `pgbench` (https://www.postgresql.org/docs/15/pgbench.html) with scripts of ours, on
the least table that any allocator must write."""

import asyncio
import re
import subprocess
from glob import glob
from itertools import count
from pathlib import Path

from bench.measure import Contender
from local_stack.part import clean_environment, find_program
from local_stack.postgres import SUPERUSER
from local_stack.run_dir import LOOPBACK, write_private
from local_stack.stack import Stack

SECONDS = 2
THREADS = 2
_ROWS_OF_A_RUN = 2**22  # each client of each run has addresses of its own
_ROWS_OF_A_CLIENT = 2**15

_TABLE = """
    CREATE TABLE public.bench_row (
        uuid uuid PRIMARY KEY, l2 uuid NOT NULL, ip inet NOT NULL, owner text, allocated_at timestamptz NOT NULL,
        UNIQUE (l2, ip));
"""
_NEXT = f"""
\\set n :n + 1
\\set ip :base + :client_id * {_ROWS_OF_A_CLIENT} + :n
"""
_IP = "'0.0.0.0'::inet + CAST(:ip AS bigint)"
_L2 = "'6c6c6c6c-0000-4000-8000-000000000000'"
INSERT = f"""{_NEXT}
INSERT INTO public.bench_row VALUES (gen_random_uuid(), {_L2}, {_IP}, 'bench', now());
"""
INSERT_AND_DELETE = f"""{INSERT}
DELETE FROM public.bench_row WHERE l2 = {_L2} AND ip = {_IP};
"""


class PgBench:
    """Single-row transactions in one database of the stack."""

    def __init__(self, stack: Stack, database: str) -> None:
        self._program = find_program("pgbench", *glob("/usr/lib/postgresql/*/bin"))
        self._port = stack.postgres.port
        self._database = database
        self._folder = stack.run_dir.folder("pgbench")
        password = stack.run_dir.secret(f"postgres-{SUPERUSER}")
        self._pgpass = self._folder / "pgpass"
        write_private(self._pgpass, f"{LOOPBACK}:{self._port}:*:{SUPERUSER}:{password}\n")
        self._run, self._script = count(), count()
        stack.postgres.sql(_TABLE, database=database)

    def contender(self, script: str, *, clients: int, protocol: str = "prepared") -> Contender:
        """Runs the script for two seconds and returns how long each run of it took from the whole."""
        path = self._folder / f"script-{next(self._script)}.sql"
        path.write_text(script)

        async def run() -> float:
            return await self._seconds(path, clients, protocol)

        return run

    async def _seconds(self, script: Path, clients: int, protocol: str) -> float:
        process = await asyncio.create_subprocess_exec(
            self._program, "--no-vacuum", f"--client={clients}", f"--jobs={min(THREADS, clients)}",
            f"--time={SECONDS}", f"--protocol={protocol}", f"--file={script}",
            "--define=n=0", f"--define=base={next(self._run) * _ROWS_OF_A_RUN}",
            "--host", LOOPBACK, "--port", str(self._port), "--username", SUPERUSER, self._database,
            env=clean_environment({"PGPASSFILE": str(self._pgpass)}),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        stdout, stderr = await process.communicate()
        found = re.search(rb"tps = ([\d.]+) \(without", stdout)
        if process.returncode or found is None:
            raise RuntimeError(f"pgbench: {stderr.decode()}{stdout.decode()}")
        return 1 / float(found[1])
