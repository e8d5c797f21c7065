"""The whole stack: what depends on what, in which order it comes up and goes down."""

import asyncio
import re
import shutil
import time
from collections.abc import Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from lab import LabError

from local_stack.broker import Broker
from local_stack.compose import ComposedBroker, ComposedPostgres
from local_stack.hosts import Hosts
from local_stack.inventory import Seen, enrol, seen_hosts
from local_stack.part import Part, StackError
from local_stack.postgres import Postgres
from local_stack.progress import Progress
from local_stack.run_dir import RunDir, write_private
from local_stack.service import Service
from viaduct_common.errors import ViaductError

T = TypeVar("T")
ASK_SECONDS = 0.2  # between two questions to the manager
CONNECT_SECONDS = 60.0  # from the start of the agents until the manager has heard of all
HOST_NAME = re.compile(r"host[1-9][0-9]*")
SERVICE_NAME = re.compile(r"(manager|ipam)(?:-([1-9][0-9]*))?")


@dataclass(frozen=True)
class Row:
    """One line of the status."""

    name: str
    good: bool
    detail: str


class Stack:
    """All parts of one run directory.

    Constructors only assign, so that a Stack may stand for one that another process has brought up. As a context:

        with Stack(run_dir, hosts=2) as stack:
            stack.hosts.host("host1").run("ip link")
            stack.part("manager").kill()
    """

    def __init__(
        self,
        run_dir: Path | RunDir,
        *,
        hosts: int = 3,
        host_kind: str | None = None,
        docker: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.run_dir = run_dir if isinstance(run_dir, RunDir) else RunDir(run_dir)
        self.host_count = hosts
        docker = docker or (self.run_dir.path / "compose").exists()
        self.broker: Broker = ComposedBroker(self.run_dir) if docker else Broker(self.run_dir)
        self.postgres: Postgres = ComposedPostgres(self.run_dir) if docker else Postgres(self.run_dir)
        self.hosts = Hosts(self.run_dir, kind=host_kind)
        self._progress = progress or Progress(quiet=True)

    def __enter__(self) -> "Stack":
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    # ---- parts -----------------------------------------------------------------------------------------------

    def part(self, name: str) -> Part:
        """Return a part: broker, postgres, manager, ipam, or manager-2 and so on."""
        if name in {"broker", "postgres"}:
            return self.broker if name == "broker" else self.postgres
        match = SERVICE_NAME.fullmatch(name)
        if match is None:
            raise StackError(f"no part {name}", advice="parts: broker postgres manager ipam manager-2 host1 ...")
        return Service(self.run_dir, match[1], number=int(match[2] or 1))

    def services(self) -> list[Part]:
        """Return the manager, the IPAM, and all that stand beside them."""
        extra = sorted(path.name for path in self.run_dir.path.glob("*-[0-9]*") if SERVICE_NAME.fullmatch(path.name))
        return [self.part(name) for name in ["manager", "ipam", *extra]]

    def add_manager(self) -> Part:
        """Start one more manager beside those that run."""
        taken = {service.name for service in self.services() if service.alive()}
        number = next(number for number in range(2, 100) if f"manager-{number}" not in taken)
        manager = self.part(f"manager-{number}")
        manager.start()
        self.write_env()
        return manager

    # ---- up --------------------------------------------------------------------------------------------------

    def up(self) -> None:
        """Start what is missing and wait until everything serves.

        Raises:
            StackError: a part did not come up; the others are left as they are.
        """
        began = time.monotonic()
        show = self._progress
        self.write_env()
        self.postgres.launch()
        self.broker.launch()
        if self.host_count:
            with lab_errors():
                self.hosts.launch(self.host_count)
        with show.step("postgres", f"port {self.postgres.port}", began=began):
            self.postgres.wait_ready()
        with show.step("broker", f"port {self.broker.port}", began=began):
            self.broker.wait_ready()
        self._start_services()
        if self.host_count:
            self._start_hosts(began)

    def _start_services(self) -> None:
        services = self.services()
        began = time.monotonic()
        for service in services:
            service.launch()
        for service in services:
            with self._progress.step(service.name, f"port {self.run_dir.port(service.name)}", began=began):
                service.wait_ready()

    def _start_hosts(self, began: float) -> None:
        names = self.hosts.names
        show = self._progress
        with (
            show.step("hosts", f"{len(names)} of kind {self.hosts.host(names[0]).spec.kind}", began=began),
            lab_errors(),
        ):
            self.hosts.wait_ready()
            self.hosts.connect(self.broker.port)
        with show.step("zone, clusters, hosts", "registered"):
            addresses = {name: self.hosts.host(name).address for name in names}
            self.hosts.remember(apart(enrol(self.broker.amqp_url(), addresses)))
        with show.step("agents", "connected"):
            self.start_agents(names)

    def start_agents(self, names: Iterable[str]) -> None:
        """Start the agents of these hosts, where they do not run, and wait until the manager has heard of each."""
        names = list(names)
        fresh = [name for name in names if self.hosts.agent(name) is None]
        now = datetime.now(UTC)
        with lab_errors():
            for name in fresh:
                self.hosts.start_agent(name)
        self.wait_connected(fresh, seen_after=now)
        self.wait_connected(names)

    def wait_connected(
        self,
        names: Iterable[str] | None = None,
        *,
        seen_after: datetime | None = None,
        timeout_seconds: float = CONNECT_SECONDS,
    ) -> None:
        """Wait until the manager calls these hosts, or all, connected, by a heartbeat after `seen_after`.

        Raises:
            StackError: an agent has ended, or the time is over.
        """
        wanted = self.hosts.names if names is None else list(names)
        deadline = time.monotonic() + timeout_seconds
        while late := self._late(wanted, seen_after):
            ended = [name for name in late if self.hosts.agent(name) is None]
            if ended or time.monotonic() > deadline:
                who = (ended or late)[0]
                why = "has ended" if ended else f"is not connected after {timeout_seconds:.0f} s"
                log = self.hosts.agent_log(who)
                raise StackError(f"the agent of {who} {why}", log=log, advice=f"look at {log}")
            time.sleep(ASK_SECONDS)

    def _late(self, wanted: Iterable[str], seen_after: datetime | None) -> list[str]:
        seen = self.seen_hosts()
        return [name for name in wanted if not (name in seen and seen[name].connected(seen_after))]

    def settle(self) -> None:
        """Wait until the services that run are ready again, after the broker or the database was away."""
        for service in self.services():
            if service.alive():
                service.wait_ready()

    def seen_hosts(self) -> dict[str, Seen]:
        """Return what the manager says of the hosts."""
        return apart(seen_hosts(self.broker.amqp_url(), self.hosts.names))

    def write_env(self) -> None:
        """Write the file `env`: what a client needs to know, as plain shell variables."""
        metrics = [f"http://127.0.0.1:{self.run_dir.port(service.name)}/metrics" for service in self.services()]
        variables = {
            "VIADUCT_AMQP_URL": self.broker.amqp_url(),
            "VIADUCT_POSTGRES_URL": self.postgres.url(),
            "VIADUCT_BROKER_UI_URL": self.broker.api_url(),
            "VIADUCT_BROKER_API_URL": self.broker.api_url(),
            "VIADUCT_METRICS_URLS": " ".join([*metrics, self.broker.metrics_url]),
        }
        text = "".join(f"{key}='{value}'\n" for key, value in variables.items())
        write_private(self.run_dir.path / "env", text)

    # ---- status and down -------------------------------------------------------------------------------------

    def status(self) -> list[Row]:
        """Return a row per part; the stack is up when all are good."""
        rows = []
        for part in [self.postgres, self.broker, *self.services()]:
            process = part.process()
            alive, ready = part.alive(), part.alive() and part.ready()
            age = f"pid {process.pid}, up {process.age_seconds():.0f} s" if process and alive else ""
            state = "ready" if ready else "not ready" if alive else "down"
            rows.append(Row(part.name, ready, f"{state:<12} {age}"))
        if not self.hosts.names:
            return rows
        try:
            seen = self.seen_hosts() if all(row.good for row in rows) else {}
        except (ViaductError, TimeoutError, OSError) as exc:
            rows.append(Row("manager", False, f"does not answer: {exc}"))
            seen = {}
        return rows + [self._host_row(name, seen.get(name)) for name in self.hosts.names]

    def _host_row(self, name: str, seen: Seen | None) -> Row:
        host = self.hosts.host(name)
        if not host.alive():
            state = "down"
        elif self.hosts.agent(name) is None:
            state = "no agent"
        else:
            state = seen.state if seen else "unknown"
        return Row(name, state == "connected", f"{state:<12} {host.spec.kind}, {host.address}")

    def down(self) -> None:
        """Stop everything and remove all data; nothing that runs, or of it, is no error."""
        show = self._progress
        if self.hosts.lab.directory.exists() or self.hosts.lab.exists():
            with show.step("hosts", "stopped"):
                self.hosts.down()
        for part in [*reversed(self.services()), self.broker, self.postgres]:
            if (self.run_dir.path / part.name).exists():
                with show.step(part.name, "stopped"):
                    part.stop()
        for name in ("ports", "secrets", "hosts", "lab", "compose", "broker", "postgres"):
            shutil.rmtree(self.run_dir.path / name, ignore_errors=True)
        for service in self.services():
            shutil.rmtree(self.run_dir.path / service.name, ignore_errors=True)
        (self.run_dir.path / "env").unlink(missing_ok=True)


@contextmanager
def lab_errors() -> Iterator[None]:
    """Turn an error of the lab into ours."""
    try:
        yield
    except LabError as exc:
        raise StackError(str(exc), advice="hosts need root and make system-packages; HOSTS=0 goes without") from exc


def apart(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a thread with a loop of its own: the caller may stand in a loop already."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
