"""A host of the agent's tests: a network namespace on the running kernel, a veth for its NIC."""

import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from viaduct_agent.links.netlink import Netlink
from viaduct_common.messages.l2 import L2NetworkInventory


@dataclass(frozen=True)
class Namespace:
    name: str

    def ip(self, arguments: str) -> str:
        command = ["ip", "-n", self.name, *arguments.split()]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def link(self, name: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(self.ip(f"-d -j link show dev {name}"))
        return found[0]

    def names(self) -> set[str]:
        return {link["ifname"] for link in json.loads(self.ip("-j link show"))}


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    if os.geteuid() != 0:
        pytest.fail("needs root: run `make test-lab`, or leave out with -m 'not lab'")
    space = Namespace(f"vt-{uuid4().hex[:8]}")
    subprocess.run(["ip", "netns", "add", space.name], check=True)
    try:
        space.ip("link add eth1 type veth peer name peer1")
        yield space
    finally:
        subprocess.run(["ip", "netns", "del", space.name], check=True)


@pytest.fixture
async def netlink(namespace: Namespace) -> AsyncIterator[Netlink]:
    async with Netlink(namespace.name) as netlink:
        yield netlink


@pytest.fixture
def network() -> Callable[..., L2NetworkInventory]:
    """Make the inventory of a NoVlan network on eth1."""

    def make(bridge: str = "br_eth1", mtu: int = 1500) -> L2NetworkInventory:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        return L2NetworkInventory(
            uuid=uuid4(), name="net", zone_uuid=uuid4(), physical_interface="eth1", type="L2NoVlanNetwork", mtu=mtu,
            bridge_name=bridge, device_names=[bridge], created_at=now, updated_at=now,
        )  # fmt: skip

    return make
