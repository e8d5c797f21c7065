"""Whether the kernels are what the manager says they are: invariant 3 of docs/architecture.md."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from lab import Host

from local_stack.stack import Stack
from viaduct_common.client import ViaductClient
from viaduct_common.errors import ViaductError

T = TypeVar("T")

# Two heartbeats of the local stack, and what a busy machine with a broker that has just started may add.
CONVERGE_SECONDS = 40.0


async def eventually(ask: Callable[[], Awaitable[T]], *, seconds: float = CONVERGE_SECONDS) -> T:
    """Ask until it raises no AssertionError any more; the last one is raised when the time is up."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await ask()
        except (AssertionError, ViaductError):
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.2)


def owned_devices(host: Host) -> set[str]:
    """The devices of a host that carry our mark, as its own kernel lists them."""
    links = json.loads(host.run(["ip", "-j", "link", "show"]).stdout)
    return {link["ifname"] for link in links if link.get("ifalias", "").startswith("viaduct:")}


async def desired_devices(net: ViaductClient, host_uuid: UUID) -> set[str]:
    """The devices that a host should have, as the manager tells; it must have nothing in motion or failed."""
    rows = (await net.realization.query(filters={"hostUuid": host_uuid}, limit=1000)).items
    assert {row.state for row in rows} <= {"realized"}, f"in motion: {[(row.state, row.error) for row in rows]}"
    networks = [await net.l2.get(uuid=row.l2_network_uuid) for row in rows]
    return {name for network in networks for name in network.device_names}


async def assert_true(stack: Stack, net: ViaductClient) -> None:
    """No operation runs, and every host's kernel equals the desired state."""
    running = (await net.operation.query(filters={"state": "running"})).items
    assert not running, f"still running: {[(one.type, one.phase) for one in running]}"
    for name in stack.hosts.names:
        wanted = await desired_devices(net, stack.hosts.uuid(name))
        actual = await asyncio.to_thread(owned_devices, stack.hosts.host(name))
        assert actual == wanted, f"{name} has {sorted(actual)}, should have {sorted(wanted)}"
