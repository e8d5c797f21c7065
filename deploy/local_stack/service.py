"""The control plane's services, run from the checkout's virtual environment."""

from pathlib import Path

from lab.process import Process, launch

from local_stack.broker import Broker
from local_stack.part import Part, answers_200, clean_environment, find_program
from local_stack.postgres import Postgres
from local_stack.run_dir import CHECKOUT, LOOPBACK, RunDir

HEARTBEAT_SECONDS = "2"


class Service(Part):
    """One process of `kind` "manager" or "ipam"; those numbered from 2 up stand beside the first.

    `environment` is laid over the stack's own settings.
    """

    stop_seconds = 35.0  # a service may finish what it has begun

    def __init__(
        self, run_dir: Path | RunDir, kind: str, *, number: int = 1, environment: dict[str, str] | None = None
    ) -> None:
        super().__init__(run_dir, kind if number == 1 else f"{kind}-{number}")
        self.kind = kind
        self.environment = environment or {}

    @property
    def base_url(self) -> str:
        """Where metrics and health are served."""
        return f"http://{LOOPBACK}:{self.run_dir.port(self.name)}"

    def ready(self) -> bool:
        """Tell whether the service says that it is ready."""
        return answers_200(self.base_url + "/readyz")

    def settings(self) -> dict[str, str]:
        """Return the environment variables of the service."""
        broker, postgres = Broker(self.run_dir), Postgres(self.run_dir)
        settings = {
            "VIADUCT_AMQP_URL": broker.amqp_url(f"viaduct-{self.kind}"),
            "VIADUCT_POSTGRES_URL": postgres.url(f"viaduct_{self.kind}"),
            "VIADUCT_METRICS_LISTEN": f"{LOOPBACK}:{self.run_dir.port(self.name)}",
            "VIADUCT_ANONYMOUS_ROLE": "admin",  # on the local stack everybody who reaches loopback may do all
            "VIADUCT_HEARTBEAT_SECONDS": HEARTBEAT_SECONDS,
            "VIADUCT_LOG_FORMAT": "json",
        }
        if self.kind == "manager":
            settings["VIADUCT_BROKER_API_URL"] = broker.api_url("viaduct-manager")
            settings["VIADUCT_ENROLMENT_SECRET_FILE"] = str(self.run_dir.secret_file("enrolment"))
        return {**settings, **self.environment}

    def _launch(self) -> Process:
        program = find_program(f"viaduct-{self.kind}", str(CHECKOUT / ".venv" / "bin"), advice="run: make setup")
        return launch([program], log=self.log, environment=clean_environment(self.settings()))
