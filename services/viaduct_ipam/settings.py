"""IPAM's settings: environment variables with the prefix `VIADUCT_`."""

from pydantic import Field

from viaduct_common.settings import ServiceSettings


class IpamSettings(ServiceSettings):
    """Requests beyond `prefetch` wait in the queue; `connections` is what one process holds of the database."""

    prefetch: int = Field(default=256, ge=1)
    connections: int = Field(default=10, ge=4)
    history_days: float = Field(default=90.0, gt=0, description="how long it is remembered who held an address")
    metrics_networks: int = Field(default=1000, ge=0, description="so many L3 networks, the fullest, have metrics")
    pause_seconds: float = Field(
        default=0.0,
        ge=0,
        description="for tests: sleep between deciding and writing, so that races have time to happen",
    )
