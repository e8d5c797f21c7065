"""The agent's settings: one TOML file, and secrets from files of their own."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from viaduct_agent.driftreports import Policy
from viaduct_agent.links.moving import PROBE_SECONDS
from viaduct_common.messages.fields import IfName
from viaduct_common.telemetry import LogFormat
from viaduct_common.topology import agent_username

CREDENTIAL = "amqp_password"


class BadSettings(Exception):
    """One line that says what is wrong, for whoever edits the file."""


class AgentSettings(BaseSettings):
    """`interface_map` maps a `physicalInterface` (a label) to this host's own device. `ovsdb_socket` is where Open
    vSwitch's ovsdb-server listens, db.sock in $OVS_RUNDIR or /run/openvswitch if it is not set. `drift` is what is done
    about what another hand changed: it is repaired, or only reported. `state_dir` is where network services keep
    configuration and leases, of this host's agent alone; each service is compared every `service_sweep_seconds`.

    Without `password_file` the password is systemd's credential `amqp_password` (LoadCredential=).
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    host_uuid: UUID
    amqp_url: str = Field(description="amqp://host:port/vhost, without user and password")
    username: str | None = None
    password_file: Path | None = None
    heartbeat_seconds: float = Field(default=10.0, gt=0, le=300)
    log_format: LogFormat = "auto"
    metrics_listen: str | None = Field(default=None, pattern=r"^.*:\d+$")
    probe_seconds: float = Field(default=PROBE_SECONDS, gt=0, le=60)
    drift: Policy = "repair"
    interface_map: dict[str, IfName] = Field(default_factory=dict)
    ovsdb_socket: Path | None = None
    state_dir: Path = Path("/var/lib/viaduct-agent")
    service_sweep_seconds: float = Field(default=60.0, gt=0, le=3600)

    @field_validator("amqp_url")
    @classmethod
    def _plain_amqp(cls, url: str) -> str:
        scheme, _, rest = url.partition("://")
        if scheme not in {"amqp", "amqps"} or not rest:
            raise ValueError("must begin with amqp:// or amqps://")
        if "@" in rest.partition("/")[0]:
            raise ValueError("must not hold credentials: use username and password_file")
        return url

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The file alone: a stray environment variable must not move a host to another broker."""
        return (init_settings,)

    @property
    def broker_address(self) -> tuple[str, int] | None:
        """Host and port; None where the URL names no host (the library's own default is this machine)."""
        url = urlsplit(self.amqp_url)
        return None if url.hostname is None else (url.hostname, url.port or (5671 if url.scheme == "amqps" else 5672))

    @property
    def broker_user(self) -> str:
        return self.username or agent_username(self.host_uuid)

    def password(self, environ: Mapping[str, str] = os.environ) -> str:
        """Read anew on each call, so that a rotated secret needs no more than a restart.

        Raises:
            BadSettings: there is no such file, or nothing says where it is.
        """
        path = self.password_file
        if path is None:
            directory = environ.get("CREDENTIALS_DIRECTORY")
            if not directory:
                raise BadSettings(f"no password: set password_file, or give the systemd credential {CREDENTIAL}")
            path = Path(directory) / CREDENTIAL
        try:
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise BadSettings(f"the password cannot be read from {path}: {exc}") from exc


def load_settings(path: Path) -> AgentSettings:
    """Raises `BadSettings` with one line that names the file and the first culprit in it."""
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise BadSettings(f"{path} cannot be read: {exc}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise BadSettings(f"{path} is no TOML: {exc}") from exc
    try:
        return AgentSettings(**values)
    except ValidationError as exc:
        first = exc.errors()[0]
        raise BadSettings(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from exc
