"""The manager's settings: environment variables with the prefix `VIADUCT_`."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from viaduct_common.settings import ServiceSettings


class ManagerSettings(ServiceSettings):
    """`broker_api_url` is RabbitMQ's management API with the credentials of a user that may create users.

    `enrolment_secret_file` holds the secret from which the agents' passwords are derived: whoever rebuilds a broker
    from nothing gives every agent its old password again.
    """

    broker_api_url: str = Field(repr=False)
    enrolment_secret_file: Path
    host_queue_type: Literal["classic", "quorum"] = "classic"
    heartbeat_seconds: float = Field(default=10.0, gt=0)
    missed_heartbeats: int = Field(default=3, ge=2)
    caretaker_seconds: float = Field(default=1.0, gt=0)
