"""RabbitMQ, one node with an epmd of its own, from Debian's package rabbitmq-server."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from lab.machine import wait_until
from lab.process import Process, launch

from local_stack.definitions import VHOST, render_definitions
from local_stack.part import Part, StackError, accepts, clean_environment, find_program
from local_stack.run_dir import LOOPBACK, RunDir, write_private

OPERATOR = "viaduct-operator"
SCRIPTS = "/usr/lib/rabbitmq/bin"
PLUGINS = "[rabbitmq_management,rabbitmq_prometheus].\n"
CONFIG = """\
listeners.tcp.1 = {listen}:{ports[amqp]}
management.tcp.ip = {listen}
management.tcp.port = {ports[amqp-api]}
prometheus.tcp.ip = {listen}
prometheus.tcp.port = {ports[amqp-metrics]}
load_definitions = {definitions}
# Without these every connection is accounted with megabytes of buffers that it never touches.
tcp_listen_options.sndbuf = 32768
tcp_listen_options.recbuf = 32768
tcp_listen_options.buffer = 32768
tcp_listen_options.nodelay = true
collect_statistics_interval = 5000
management.rates_mode = basic
vm_memory_high_watermark.absolute = 1GiB
disk_free_limit.absolute = 50MB
log.console = false
log.file.level = info
"""


class Broker(Part):
    """The broker: vhost `viaduct` with all exchanges, service queues, policies and users from its first moment on."""

    start_seconds = 120.0
    stop_seconds = 40.0

    def __init__(self, run_dir: Path | RunDir) -> None:
        super().__init__(run_dir, "broker")

    # ---- addresses -------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """Where AMQP is spoken, on loopback."""
        return self.run_dir.port("amqp")

    def amqp_url(self, user: str = OPERATOR) -> str:
        """Return the URL for one of the users of deploy/rabbitmq/users.json."""
        return f"amqp://{user}:{self.run_dir.secret(f'amqp-{user}')}@{LOOPBACK}:{self.port}/{VHOST}"

    def api_url(self, user: str = OPERATOR) -> str:
        """Return the URL of the management pages and API, with credentials."""
        return f"http://{user}:{self.run_dir.secret(f'amqp-{user}')}@{LOOPBACK}:{self.run_dir.port('amqp-api')}"

    @property
    def metrics_url(self) -> str:
        """Where the broker's own metrics are."""
        return f"http://{LOOPBACK}:{self.run_dir.port('amqp-metrics')}/metrics"

    # ---- life ------------------------------------------------------------------------------------------------

    @property
    def log(self) -> Path:
        """The node's own log once it has one, else what its start printed."""
        own = self.folder / "log" / f"{self._node}.log"
        return own if own.exists() else self.folder / "log.txt"

    def ready(self) -> bool:
        """Tell whether AMQP connections are taken; listening is the last thing that a starting node does."""
        return accepts(self.port)

    def stop(self) -> None:
        """Stop the node in order, then its epmd."""
        super().stop()
        epmd = Process.load(self.run_dir.path / self.name / "epmd.json")
        if epmd:
            epmd.stop()

    def ctl(self, *arguments: str, timeout_seconds: float = 60) -> str:
        """Run rabbitmqctl for this node and return what it prints."""
        argv = [find_program("rabbitmqctl", SCRIPTS), "--quiet", *arguments]
        done = subprocess.run(
            argv, env=self._environment(), capture_output=True, text=True, timeout=timeout_seconds, check=False
        )
        if done.returncode:
            raise StackError(f"rabbitmqctl {arguments[0]}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def _launch(self) -> Process:
        folder = self.folder
        server = find_program("rabbitmq-server", SCRIPTS)
        write_private(folder / "enabled_plugins", PLUGINS)
        cookie = folder / ".erlang.cookie"
        if not cookie.exists():
            write_private(cookie, self.run_dir.secret("erlang-cookie"))
            cookie.chmod(0o400)
        render_definitions(self.run_dir, folder / "definitions.json")
        ports = {name: self.run_dir.port(name) for name in ("amqp", "amqp-api", "amqp-metrics")}
        settings = settings_text(LOOPBACK, ports, folder / "definitions.json")
        write_private(folder / "rabbitmq.conf", settings)
        self._start_epmd()
        return launch([server], log=folder / "log.txt", environment=self._environment())

    def _start_epmd(self) -> None:
        """The Erlang port mapper, started by us so that it is known and can be stopped."""
        record = self.folder / "epmd.json"
        running = Process.load(record)
        if running and running.alive():
            return
        log = self.folder / "epmd.txt"
        port = self.run_dir.port("epmd")
        argv = [find_program("epmd"), "-address", LOOPBACK, "-port", str(port)]
        process = launch(argv, log=log, environment=clean_environment({}))
        process.save(record)
        if not wait_until(lambda: accepts(port), timeout_seconds=10):
            raise StackError("epmd did not start", log=log)

    @property
    def _node(self) -> str:
        return f"viaduct-{self.run_dir.short_id}@localhost"

    def _environment(self) -> dict[str, str]:
        folder = self.folder
        quiet = "+sbwt none +sbwtdcpu none +sbwtdio none"  # no busy waiting: other parts need the cores
        return clean_environment(
            {
                "HOME": str(folder),
                "RABBITMQ_NODENAME": self._node,
                "RABBITMQ_DIST_PORT": str(self.run_dir.port("amqp-dist")),
                "RABBITMQ_MNESIA_BASE": str(folder / "data"),
                "RABBITMQ_LOG_BASE": str(folder / "log"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
                "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
                "RABBITMQ_CONF_ENV_FILE": "/dev/null",
                "RABBITMQ_PID_FILE": str(folder / "pid"),
                "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
                "RABBITMQ_FEATURE_FLAGS_FILE": str(folder / "feature_flags"),
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{quiet} -start_epmd false "
                "-kernel inet_dist_use_interface {127,0,0,1}",
                "RABBITMQ_CTL_ERL_ARGS": f"{quiet} -start_epmd false",
                "ERL_EPMD_PORT": str(self.run_dir.port("epmd")),
                "ERL_EPMD_ADDRESS": LOOPBACK,
                # The script then becomes the node instead of waiting for it: one process, one id.
                "RUNNING_UNDER_SYSTEMD": "1",
            }
        )


def settings_text(listen: str, ports: Mapping[str, int], definitions: Path) -> str:
    """Return the text of rabbitmq.conf; the ports are those of "amqp", "amqp-api" and "amqp-metrics"."""
    return CONFIG.format(listen=listen, ports=ports, definitions=definitions)
