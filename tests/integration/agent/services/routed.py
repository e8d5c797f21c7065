"""A network behind a router: two VMs inside, a stranger in the public network, and the router's spec."""

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from uuid import UUID, uuid4

from viaduct_agent.services.api import ServiceOnHost
from viaduct_common.messages.services.specs import RouterSpec

from .world import Machine, World

INSIDE, PUBLIC = "10.0.0.{}", "203.0.113.{}"
INSIDE6, PUBLIC6 = "fd00::{}", "2001:db8::{}"
ROUTER_MAC, OUTSIDE_MAC = "fa:00:00:00:01:01", "fa:00:00:00:02:01"


def vm_mac(number: int) -> str:
    return f"fa:00:00:00:00:{number:02x}"


@dataclass
class Routed:
    """`one` is .11 and `two` .12 inside; `outer` is .100 outside; the router is .1 inside and .2, .3, ... outside."""

    world: World
    one: Machine
    two: Machine
    outer: Machine
    service: UUID
    l3: UUID

    @classmethod
    def make(cls, world: World) -> "Routed":
        world.bridge("br_in")
        world.bridge("br_pub")
        machines = [world.machine(name) for name in ("one", "two", "outer")]
        for number, machine in enumerate(machines[:2], start=11):
            world.plug(machine, "br_in", vm_mac(number), f"vm{number}")
        world.plug(machines[2], "br_pub", vm_mac(100), "ext")
        machines[2].ip(
            f"address add {PUBLIC.format(100)}/24 dev eth0", f"address add {PUBLIC6.format(100)}/64 dev eth0 nodad"
        )
        return cls(world, *machines, uuid4(), uuid4())

    def static(self) -> None:
        """Give the VMs their addresses and routes without DHCP."""
        for number, machine in ((11, self.one), (12, self.two)):
            machine.ip(
                f"address add {INSIDE.format(number)}/24 dev eth0",
                f"address add {INSIDE6.format(number)}/64 dev eth0 nodad",
                f"route replace default via {INSIDE.format(1)}",
                f"-6 route replace default via {INSIDE6.format(1)}",
            )

    def spec(self, *, publics: tuple[int, ...] = (2,), **parts: Any) -> RouterSpec:
        """`publics` are the last numbers of the router's public addresses."""
        return RouterSpec.model_validate(
            {
                "l3_network_uuid": self.l3,
                "inside": leg("br_in", ROUTER_MAC, [f"{INSIDE.format(1)}/24", f"{INSIDE6.format(1)}/64"]),
                "outside": [
                    leg(
                        "br_pub",
                        OUTSIDE_MAC,
                        [f"{PUBLIC.format(n)}/24" for n in publics] + [f"{PUBLIC6.format(n)}/64" for n in publics],
                        [PUBLIC.format(100), PUBLIC6.format(100)],
                    )
                ],
                **parts,
            }
        )

    def want(self, spec: RouterSpec, generation: int = 1) -> ServiceOnHost:
        return ServiceOnHost(self.service, "virtualRouter", generation, spec.model_dump(mode="json"))


def leg(
    bridge: str, mac: str, addresses: list[str], gateways: list[str] | None = None, mtu: int = 1450
) -> dict[str, Any]:
    port = {"l2_network_uuid": uuid4(), "bridge": bridge}
    return {"port": port, "mac": mac, "mtu": mtu, "addresses": addresses, "gateways": gateways or []}


def nic(number: int, name: str, **parts: Any) -> dict[str, Any]:
    ips = [INSIDE.format(number), INSIDE6.format(number)]
    return {"nic_uuid": UUID(int=number), "mac": vm_mac(number), "host_name": name, "ips": ips, **parts}


def eip(public: str, private: str) -> dict[str, Any]:
    return {"eip_uuid": UUID(int=int(ip_address(public))), "public_ip": public, "private_ip": private}


def forwarding(public: str, ports: tuple[int, int], private: str, start: int, **parts: Any) -> dict[str, Any]:
    values = {"public_ip": public, "public_start": ports[0], "public_end": ports[1]}
    return {"rule_uuid": uuid4(), "protocol": "TCP", "private_ip": private, "private_start": start, **values, **parts}
