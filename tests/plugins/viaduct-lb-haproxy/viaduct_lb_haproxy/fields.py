"""What the ends agree on: the service type, what it is configured with, and what a host is told."""

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from viaduct_common.messages.base import StrictModel, WireModel
from viaduct_common.messages.fields import HostName, IpAddress, L4Port
from viaduct_common.messages.services.specs import Leg

LOAD_BALANCER = "LoadBalancer"
KIND = "haproxy"

Protocol = Literal["TCP", "HTTP"]
Balance = Literal["roundrobin", "leastconn", "source"]
Weight = Annotated[int, Field(strict=True, ge=1, le=256)]


class Target(StrictModel):
    """A NIC of the L3 network and the port that its VM listens on."""

    nic_uuid: UUID
    port: L4Port
    weight: Weight = 1


class Listener(StrictModel):
    """One port of the load balancer's address. `name` is shown in HAProxy's own statistics."""

    name: HostName
    protocol: Protocol = "TCP"
    port: L4Port
    balance: Balance = "roundrobin"
    targets: Annotated[list[Target], Field(max_length=256)] = Field(default_factory=list)


class LoadBalancerConfig(StrictModel):
    """The `config` of this service type in `l3.attachServices` and `l3.configureService`."""

    listeners: Annotated[list[Listener], Field(max_length=64)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _listeners_do_not_collide(self) -> Self:
        for what in ("name", "port"):
            values = [getattr(listener, what) for listener in self.listeners]
            twice = next((value for value in values if values.count(value) > 1), None)
            if twice is not None:
                raise ValueError(f"two listeners have the {what} {twice}")
        return self


class Server(WireModel):
    """A target as a host has to know it. `name` is the NIC's uuid."""

    name: str
    ip: IpAddress
    port: L4Port
    weight: Weight = 1


class ServedListener(WireModel):
    name: str
    protocol: Protocol
    port: L4Port
    balance: Balance
    servers: list[Server] = Field(default_factory=list)


class HaproxySpec(WireModel):
    """The `spec` of the kind `haproxy`: one HAProxy, with a leg of its own in the L3 network."""

    l3_network_uuid: UUID
    leg: Leg
    listeners: list[ServedListener] = Field(default_factory=list)
