"""IPAM's settings: environment variables with the prefix `VIADUCT_`."""

from pydantic import Field

from viaduct_common.settings import ServiceSettings


class IpamSettings(ServiceSettings):
    """Requests beyond `prefetch` wait in the queue; `connections` is what one process holds of the database."""

    prefetch: int = Field(default=64, ge=1)
    connections: int = Field(default=10, ge=3)
