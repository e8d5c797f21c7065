"""PostgreSQL, a cluster of its own, from Debian's packages."""

import os
import signal
import subprocess
from glob import glob
from pathlib import Path

from lab.machine import wait_until
from lab.process import Process, launch

from local_stack.part import Part, StackError, clean_environment, find_program
from local_stack.run_dir import LOOPBACK, RunDir, write_private

DATABASE = "viaduct"
SUPERUSER = "postgres"
SERVICES = ("viaduct_manager", "viaduct_ipam")  # roles; each owns the schema of its name
# PostgreSQL refuses to run as root. In a user namespace root appears as nobody, while outside the files stay root's,
# so that the run directory may lie where nobody else can go.
AS_NOBODY = ["unshare", "--user", "--map-user=65534", "--map-group=65534"]
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "512MB",  # touched as it is needed
    "password_encryption": "scram-sha-256",
    "log_line_prefix": "%m [%p] %u ",
    "timezone": "UTC",
}

NO_NAMESPACE_ADVICE = (
    "PostgreSQL does not run as root, and this place (a chroot?) gives root no user namespace to be somebody else in; "
    "run it as another user with HOSTS=0, or outside"
)


class Postgres(Part):
    """The database `viaduct`: a schema per service, owned by the role that the service uses."""

    def __init__(self, run_dir: Path | RunDir) -> None:
        super().__init__(run_dir, "postgres")

    @property
    def port(self) -> int:
        """Where it listens, on loopback."""
        return self.run_dir.port("postgres")

    def url(self, role: str = SUPERUSER, database: str = DATABASE) -> str:
        """Return the URL for a role: `postgres`, the superuser, or one of the services'."""
        return f"postgresql://{role}:{self.run_dir.secret(f'postgres-{role}')}@{LOOPBACK}:{self.port}/{database}"

    def ready(self) -> bool:
        """Tell whether the server answers and the database is provisioned."""
        return self._answers() and (self.folder / "provisioned").exists()

    def wait_ready(self) -> None:
        """Wait until the server answers, and at the first time make roles, database and schemas."""
        if not (self.folder / "provisioned").exists():
            self._provision()
        super().wait_ready()

    def sql(self, statements: str, *, database: str = DATABASE) -> str:
        """Run statements as the superuser and return the rows, unaligned; a failure raises StackError."""
        argv = [_binary("psql"), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]
        argv += ["--host", LOOPBACK, "--port", str(self.port), "--username", SUPERUSER, "--dbname", database]
        done = subprocess.run(
            argv, input=statements, env=self._client_environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise StackError(f"psql: {done.stderr.strip()}", log=self.log)
        return done.stdout.strip()

    def create_database(self, name: str) -> None:
        """Make another database, provisioned like the first: tests take one each."""
        self.sql(f"CREATE DATABASE {name};", database="postgres")
        self.sql(_schemas(name), database=name)

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE);", database="postgres")

    def _launch(self) -> Process:
        data = self.folder / "data"
        if not (self.folder / "initialised").exists():
            self._initialise(data)
        settings = [f"--{name}={value}" for name, value in {**SETTINGS, "port": str(self.port)}.items()]
        argv = [*_as_somebody(), _binary("postgres"), "-D", str(data), *settings]
        return launch(argv, log=self.log, environment=clean_environment({"LC_ALL": "C.UTF-8"}))

    def _initialise(self, data: Path) -> None:
        argv = [*_as_somebody(), _binary("initdb"), "-D", str(data), "--username", SUPERUSER, "--encoding=UTF8"]
        argv += ["--locale=C.UTF-8", "--auth=scram-sha-256", "--no-sync", "--no-instructions"]
        argv += [f"--pwfile={self.run_dir.secret_file(f'postgres-{SUPERUSER}')}"]
        done = subprocess.run(argv, env=clean_environment({}), capture_output=True, text=True, check=False)
        if done.returncode:
            advice = NO_NAMESPACE_ADVICE if done.stderr.startswith("unshare:") else self._advice()
            raise StackError(f"initdb: {done.stderr.strip()}", advice=advice)
        (self.folder / "initialised").touch()

    def _provision(self) -> None:
        wait_until(lambda: self._answers() or not self.alive(), timeout_seconds=self.start_seconds)
        if not self.alive():
            raise StackError("postgres ended while starting", log=self.log, advice=self._advice())
        self.sql(self._roles(), database="postgres")
        if not self.sql(f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}';", database="postgres"):
            self.create_database(DATABASE)
        (self.folder / "provisioned").touch()

    def _answers(self) -> bool:
        argv = [_binary("pg_isready"), "--quiet", "--host", LOOPBACK, "--port", str(self.port)]
        return subprocess.run(argv, env=self._client_environment(), check=False).returncode == 0

    def _roles(self) -> str:
        return "".join(
            f"DO $$ BEGIN CREATE ROLE {role} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;\n"
            f"ALTER ROLE {role} PASSWORD '{self.run_dir.secret(f'postgres-{role}')}';\n"
            f"ALTER ROLE {role} SET search_path = {role}, public;\n"
            for role in SERVICES
        )

    def _client_environment(self) -> dict[str, str]:
        """The password reaches psql by a file: neither by the command line nor by the environment."""
        password = self.run_dir.secret(f"postgres-{SUPERUSER}")
        path = self.folder / "pgpass"
        if not path.exists():
            write_private(path, f"{LOOPBACK}:{self.port}:*:{SUPERUSER}:{password}\n")
        return clean_environment({"PGPASSFILE": str(path), "PGCONNECT_TIMEOUT": "10"})

    def _stop(self, process: Process) -> None:
        process.stop(number=signal.SIGINT, timeout_seconds=self.stop_seconds)  # "fast": clients are sent away


def _schemas(database: str) -> str:
    """Return the statements that make a fresh database fit for the services."""
    rows = [f"REVOKE ALL ON DATABASE {database} FROM PUBLIC;", "CREATE EXTENSION btree_gist SCHEMA public;"]
    for role in SERVICES:
        rows.append(f"GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {role};")
        rows.append(f"CREATE SCHEMA {role} AUTHORIZATION {role};")
    return "\n".join(rows)


def _as_somebody() -> list[str]:
    return AS_NOBODY if os.geteuid() == 0 else []


def _binary(name: str) -> str:
    return find_program(name, *glob("/usr/lib/postgresql/*/bin"))
