"""Broker and database in containers, from the official images: `STACK=docker`."""

import subprocess
from pathlib import Path

from lab.process import Process

from local_stack.broker import PLUGINS, Broker, settings_text
from local_stack.definitions import render_definitions
from local_stack.part import Part, StackError, clean_environment, find_program
from local_stack.postgres import SUPERUSER, Postgres
from local_stack.run_dir import CHECKOUT, RunDir

COMPOSE_FILE = CHECKOUT / "deploy" / "compose" / "compose.yaml"
IN_CONTAINER = {"amqp": 5672, "amqp-api": 15672, "amqp-metrics": 15692}
DEFINITIONS = Path("/etc/rabbitmq/definitions.json")


class Composed(Part):
    """A part that is a service of deploy/compose/compose.yaml, of the same name."""

    start_seconds = 180.0  # an image may have to be fetched

    def alive(self) -> bool:
        """Tell whether the container runs."""
        return bool(_compose(self.run_dir, "ps", "--status", "running", "--quiet", self.name))

    def process(self) -> Process | None:
        """A container's process is the engine's business."""
        return None

    def launch(self) -> None:
        """Create and start the container."""
        _write_files(self.run_dir)
        _compose(self.run_dir, "up", "--detach", self.name)

    def stop(self) -> None:
        """Stop and remove the container; with the last one the volumes and the network go, too."""
        _compose(self.run_dir, "rm", "--force", "--stop", self.name)
        if not _compose(self.run_dir, "ps", "--all", "--quiet"):
            _compose(self.run_dir, "down", "--volumes")

    def kill(self) -> None:
        """Crash the container."""
        _compose(self.run_dir, "kill", self.name)

    def restart(self) -> None:
        """Restart the container, its data kept."""
        _compose(self.run_dir, "restart", self.name)
        self.wait_ready()

    def _advice(self) -> str:
        return f"look at: docker compose --project-name {_project(self.run_dir)} logs {self.name}"


class ComposedBroker(Composed, Broker):
    """The broker in a container."""


class ComposedPostgres(Composed, Postgres):
    """The database in a container."""


def _project(run_dir: RunDir) -> str:
    return f"viaduct-{run_dir.short_id}"


def _write_files(run_dir: RunDir) -> None:
    """Write what is mounted. The folder is closed to others; the files are open, for the containers' own users."""
    folder = run_dir.folder("compose")
    render_definitions(run_dir, folder / "definitions.json")
    (folder / "rabbitmq.conf").write_text(settings_text("0.0.0.0", IN_CONTAINER, DEFINITIONS))
    (folder / "enabled_plugins").write_text(PLUGINS)
    (folder / "postgres-password").write_text(run_dir.secret(f"postgres-{SUPERUSER}"))
    for path in folder.iterdir():
        path.chmod(0o644)


def _compose(run_dir: RunDir, *arguments: str) -> str:
    variables = {
        "VIADUCT_PROJECT": _project(run_dir),
        "VIADUCT_FILES": str(run_dir.path / "compose"),
        "VIADUCT_AMQP_PORT": str(run_dir.port("amqp")),
        "VIADUCT_API_PORT": str(run_dir.port("amqp-api")),
        "VIADUCT_BROKER_METRICS_PORT": str(run_dir.port("amqp-metrics")),
        "VIADUCT_POSTGRES_PORT": str(run_dir.port("postgres")),
    }
    docker = find_program("docker", advice="install Docker with its compose plugin, or go without STACK=docker")
    argv = [docker, "compose", "--file", str(COMPOSE_FILE), *arguments]
    done = subprocess.run(argv, env=clean_environment(variables), capture_output=True, text=True, check=False)
    if done.returncode:
        raise StackError(f"docker compose {arguments[0]}: {done.stderr.strip()}", advice="is the engine running?")
    return done.stdout.strip()
