"""The whole stack: what depends on what, in which order it comes up and goes down."""

import asyncio
import re
import shutil
import time
from collections.abc import Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lab import LabError
from lab.machine import wait_until

from local_stack.broker import Broker
from local_stack.compose import ComposedBroker, ComposedPostgres
from local_stack.hosts import Hosts
from local_stack.inventory import enrol, host_states
from local_stack.part import Part, StackError
from local_stack.postgres import Postgres
from local_stack.progress import Progress
from local_stack.run_dir import RunDir, write_private
from local_stack.service import Service

T = TypeVar("T")
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
            self.hosts.remember(apart(enrol(self.broker.amqp_url(), names)))
        with show.step("agents", "connected"), lab_errors():
            for name in names:
                self.hosts.start_agent(name)
            self.wait_connected()

    def wait_connected(self, names: Iterable[str] | None = None, *, timeout_seconds: float = CONNECT_SECONDS) -> None:
        """Wait until the manager calls every host connected."""
        wanted = list(names or self.hosts.names)

        def missing() -> list[str]:
            states = self.host_states()
            return [name for name in wanted if states.get(name) != "connected"]

        deadline = time.monotonic() + timeout_seconds
        while late := missing():
            ended = [name for name in late if self.hosts.agent(name) is None]
            if ended or time.monotonic() > deadline:
                who = (ended or late)[0]
                why = "has ended" if ended else f"is not connected after {timeout_seconds:.0f} s"
                log = self.hosts.agent_log(who)
                raise StackError(f"the agent of {who} {why}", log=log, advice=f"look at {log}")
            wait_until(lambda: False, timeout_seconds=0.2)

    def host_states(self) -> dict[str, str]:
        """Return what the manager says of the hosts."""
        return apart(host_states(self.broker.amqp_url(), self.hosts.names))

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
            states = self.host_states() if all(row.good for row in rows) else {}
        except Exception as exc:  # whatever it is, the table must show it
            states = dict.fromkeys(self.hosts.names, f"unknown: {exc}")
        for name in self.hosts.names:
            host = self.hosts.host(name)
            agent = self.hosts.agent(name) if host.alive() else None
            state = states.get(name, "unknown") if agent else "no agent" if host.alive() else "down"
            where = f"{host.spec.kind}, {host.address}"
            rows.append(Row(name, state == "connected" and agent is not None, f"{state:<12} {where}"))
        return rows

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
