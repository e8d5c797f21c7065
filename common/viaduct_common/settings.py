"""Settings that both services share; every name is an environment variable with the prefix `VIADUCT_`."""

import argparse
import sys
from importlib.metadata import version
from typing import TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from viaduct_common.messages.base import Role
from viaduct_common.roles import RolePolicy
from viaduct_common.telemetry import LogFormat

# The broker users that `deploy/rabbitmq` makes: the operator, the manager, who asks IPAM, and IPAM, who asks it
# which owners it knows.
SHIPPED_ROLES: dict[str, Role] = {
    "viaduct-operator": "admin",
    "viaduct-manager": "operator",
    "viaduct-ipam": "reader",
}


class ServiceSettings(BaseSettings):
    """`roles` maps further broker users to roles, as JSON: `{"compute": "operator"}`."""

    model_config = SettingsConfigDict(env_prefix="VIADUCT_", frozen=True)

    amqp_url: str = Field(repr=False)
    postgres_url: str = Field(repr=False)
    metrics_listen: str | None = None
    log_format: LogFormat = "auto"
    anonymous_role: Role | None = None
    roles: dict[str, Role] = Field(default_factory=dict)

    @property
    def role_policy(self) -> RolePolicy:
        return RolePolicy(self.anonymous_role, SHIPPED_ROLES | self.roles)


S = TypeVar("S", bound=BaseSettings)


def read_settings(settings_type: type[S], program: str, description: str) -> S:
    """What `--help` and `--version` want is printed; else the settings of the environment.

    Exits with a line that names the variable, if one is missing or wrong.
    """
    parser = argparse.ArgumentParser(
        prog=program, description=f"{description} Its settings are environment variables; see docs/operations.md."
    )
    parser.add_argument("--version", action="version", version=f"{program} {version('viaduct')}")
    parser.parse_args()
    try:
        return settings_type()
    except ValidationError as error:
        problems = "; ".join(f"VIADUCT_{str(one['loc'][0]).upper()}: {one['msg']}" for one in error.errors())
        sys.exit(f"{program}: {problems}")
