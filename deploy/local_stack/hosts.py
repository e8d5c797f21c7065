"""The stack's hosts: a lab of simulated hosts, an agent in each."""

import json
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import UUID

from lab import Host, Lab, LabError, Program, host_kind_for
from lab.process import Process

from local_stack.inventory import Enrolled
from local_stack.part import StackError
from local_stack.run_dir import CHECKOUT, RunDir, write_private, write_private_json
from local_stack.service import HEARTBEAT_SECONDS

AMQP_PORT = 5672  # where the hosts find the broker, at the lab's own address
AGENT_LOG = "agent.log"


@dataclass(frozen=True)
class AgentRecord:
    """A started agent: its process id in the host, and which boot of the host that was."""

    pid: int
    boot: dict[str, int]


class Hosts:
    """Hosts named host1 and up. Which exist is what the lab says; the constructor only assigns."""

    def __init__(self, run_dir: Path | RunDir, *, kind: str | None = None) -> None:
        self.run_dir = run_dir if isinstance(run_dir, RunDir) else RunDir(run_dir)
        self.kind = kind
        self.lab = Lab(f"stack-{self.run_dir.short_id}", self.run_dir.path / "lab")

    # ---- hosts -----------------------------------------------------------------------------------------------

    def launch(self, count: int) -> None:
        """Make the lab and begin to boot; what runs stays as it is. More hosts than `count` stay, too."""
        self.lab.up()
        kind = self.kind or host_kind_for(["bridge", "vlan", "vxlan"])
        known = set(self.lab.host_names())
        for name in (f"host{number}" for number in range(1, count + 1)):
            if name not in known:
                self.lab.add_host(name, kind=kind)
        for host in self.lab.hosts():
            if not host.alive():
                host.launch()

    def wait_ready(self) -> None:
        """Wait until every host takes commands."""
        for host in self.lab.hosts():
            try:
                host.wait_ready()
            except LabError as exc:
                raise StackError(str(exc), advice="see tests/lab for what a host needs") from exc
            host.thaw()

    def connect(self, broker_port: int) -> None:
        """Let the hosts reach the broker of this stack."""
        self.lab.forward(AMQP_PORT, f"127.0.0.1:{broker_port}")

    @property
    def names(self) -> list[str]:
        """All hosts, host2 before host10."""
        return sorted(self.lab.host_names(), key=lambda name: (len(name), name))

    def host(self, name: str) -> Host:
        """Return one host: to run commands in it, cut its cables, pull its plug."""
        return self.lab.host(name)

    def down(self) -> None:
        """Stop all hosts in order and remove the lab."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda host: host.stop(), self.lab.hosts()))
        self.lab.down()

    # ---- agents ----------------------------------------------------------------------------------------------

    def remember(self, enrolled: Mapping[str, Enrolled]) -> None:
        """Keep the credentials of newly registered hosts.

        Raises:
            StackError: a host was registered before, and its password is not known here.
        """
        known = self._credentials()
        for name, host in enrolled.items():
            if host.password:
                known[name] = {"uuid": str(host.uuid), "username": host.username, "password": host.password}
            elif known.get(name, {}).get("uuid") != str(host.uuid):
                message = f"{name} is registered already, but its password is not in {self.run_dir.path}"
                raise StackError(message, advice="run: make down up")
        write_private_json(self.run_dir.folder("hosts") / "credentials.json", known)

    def uuid(self, name: str) -> UUID:
        """Return the uuid of a registered host."""
        return UUID(self._credentials()[name]["uuid"])

    def start_agent(self, name: str, *, environment: Mapping[str, str] | None = None) -> Program:
        """Start the agent of a host, unless it runs."""
        running = self.agent(name)
        if running is not None:
            return running
        host = self.host(name)
        credentials = self._credentials()[name]
        write_private(host.directory / "agent-password", credentials["password"])
        settings: dict[str, str | float] = {
            "host_uuid": credentials["uuid"],
            "amqp_url": f"amqp://10.77.0.1:{AMQP_PORT}/viaduct",
            "username": credentials["username"],
            "password_file": "/run/host/agent-password",
            "heartbeat_seconds": float(HEARTBEAT_SECONDS),
            "log_format": "json",
            "metrics_listen": "127.0.0.1:9105",
            "state_dir": "/run/host/services",
        }
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in settings.items()]  # JSON scalars are TOML, too
        (host.directory / "agent.toml").write_text("".join(lines))
        program = host.spawn(agent_command(), log=AGENT_LOG, env=environment)
        boot = host.process() or Process(0, 0)
        write_private_json(self._record(name), asdict(AgentRecord(program.pid, asdict(boot))))
        return program

    def agent(self, name: str) -> Program | None:
        """Return the running agent of a host, if there is one."""
        host = self.host(name)
        try:
            record = AgentRecord(**json.loads(self._record(name).read_text()))
        except FileNotFoundError:
            return None
        program = Program(host, record.pid, host.directory / AGENT_LOG)
        boot = host.process()
        same_boot = boot is not None and boot.alive() and asdict(boot) == record.boot
        return program if same_boot and program.exit_status() is None else None

    def stop_agent(self, name: str, *, number: int = signal.SIGTERM) -> None:
        """Send the agent of a host a signal and wait for its end."""
        agent = self.agent(name)
        if agent:
            agent.stop(number, timeout_seconds=35)

    def agent_log(self, name: str) -> Path:
        """Where the agent of a host writes its log."""
        return self.host(name).directory / AGENT_LOG

    def _credentials(self) -> dict[str, dict[str, str]]:
        try:
            found: dict[str, dict[str, str]] = json.loads(
                (self.run_dir.folder("hosts") / "credentials.json").read_text()
            )
        except FileNotFoundError:
            return {}
        return found

    def _record(self, name: str) -> Path:
        return self.run_dir.folder("hosts") / f"{name}.agent.json"


def agent_command() -> Sequence[str]:
    """Return the agent's command line, as seen inside a host."""
    return [str(CHECKOUT / ".venv" / "bin" / "viaduct-agent"), "--config", "/run/host/agent.toml"]
