"""Hosts with real kernels whose backends answer: what the lab tests of this folder share."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from lab import Host
from lab.control import ask
from lab.machine import wait_until

from viaduct_common import naming
from viaduct_common.messages.agent import L2Desired, Peer
from viaduct_common.messages.l2 import L2NetworkInventory

SCRIPT = Path(__file__).with_name("guest_backend.py")
PORT = 8
LOG = "backends.log"


def serve_backends(hosts: list[Host]) -> None:
    """Start the backends in each host and wait until they answer."""
    environment = {"PYTHONPATH": ":".join(filter(None, sys.path))}
    programs = [host.spawn([sys.executable, str(SCRIPT)], log=LOG, env=environment) for host in hosts]
    for program in programs:
        ready = wait_until(
            lambda program=program: "listening" in program.output() or program.exit_status() is not None,  # type: ignore[misc]
            timeout_seconds=60,
        )
        assert ready, program.output()
        assert program.exit_status() is None, program.output()


def do(host: Host, action: str, desired: L2Desired | None = None) -> dict[str, Any]:
    """`realize`, `check` or `release`; `capabilities` needs no network."""
    request: dict[str, Any] = {"action": action}
    if desired is not None:
        request["desired"] = desired.model_dump(mode="json")
    return ask(host.netns, host.control, request, timeout_seconds=60, port=PORT)


def inventory(kind: str, number: int, *, mtu: int = 1400, interface: str = "eth1") -> L2NetworkInventory:
    """A network of an L2 type; `number` is its VLAN, VNI or key."""
    names: dict[str, tuple[str, list[str], dict[str, int]]] = {
        "L2NoVlanNetwork": (naming.bridge_name(interface), [], {}),
        "L2VlanNetwork": (
            naming.bridge_name(interface, number), [naming.vlan_device_name(interface, number)], {"vlan": number}
        ),
        "L2VxlanNetwork": (naming.vxlan_bridge_name(number), [naming.vxlan_device_name(number)], {"vni": number}),
        "OvsGreL2Network": (naming.gre_bridge_name(number), [], {"key": number}),
    }  # fmt: skip
    bridge, others, own = names[kind]
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return L2NetworkInventory.model_validate(
        {
            "uuid": uuid4(), "name": "net", "zoneUuid": uuid4(), "physicalInterface": interface, "type": kind,
            "mtu": mtu, "bridgeName": bridge, "deviceNames": [bridge, *others], "createdAt": now, "updatedAt": now,
            **own,
        }
    )  # fmt: skip


def desired(
    network: L2NetworkInventory, host: Host, generation: int = 1, backend: str | None = None, peers: Sequence[Peer] = ()
) -> L2Desired:
    return L2Desired.model_validate(
        {
            "generation": generation, "l2_network": network, "backend": backend, "tunnel_ip": host.address,
            "peers": list(peers),
        }
    )  # fmt: skip
