"""Scene: somebody changes devices by hand, and the agent puts them right."""

import asyncio
import json
import time

from demo.stage import GuestNic, Stage, ping
from viaduct_common.messages.l2 import L2NetworkInventory

REPAIR_SECONDS = 15.0


async def play(stage: Stage, network: L2NetworkInventory, a: GuestNic, b: GuestNic) -> None:
    """Break the network on two hosts; leave it whole."""
    tell = stage.narrator
    (device,) = set(network.device_names) - {network.bridge_name}
    with tell.scene(
        "Somebody changes a host by hand",
        "The agents watch their kernels, put back what they own, and report it. Nobody else is asked.",
    ):
        former = (await stage.links("host3"))[device]
        await _by_hand(stage, "host3", f"ip link del {device}")

        async def anew() -> bool:
            link = (await stage.links("host3")).get(device)
            return link is not None and link.index != former.index and link.master == network.bridge_name and link.up

        took = await stage.until(anew, timeout_seconds=REPAIR_SECONDS)
        tell.fact(f"{device} is there again, a new device in its old place", took is not None, seconds=took)

        await _by_hand(stage, "host1", f"ip link set {network.bridge_name} down mtu 1400")

        async def whole() -> bool:
            shown = await asyncio.to_thread(stage.host("host1").run, f"ip link show {network.bridge_name}")
            return ",UP" in shown.stdout and "mtu 1500" in shown.stdout

        took = await stage.until(whole, timeout_seconds=REPAIR_SECONDS)
        tell.fact(f"{network.bridge_name} is up again, with its own MTU", took is not None, seconds=took)

        for host in ("host3", "host1"):
            reports = await _drift_reports(stage, host)
            tell.show(reports[:1], title=f"what the agent of {host} says:")
            tell.fact(f"{host} reported drift, and that it is repaired", any('"repaired": true' in r for r in reports))
        checks = await stage.net.l2.check(l2_network_uuid=network.uuid)
        tell.fact("check says ok on all hosts", {check.status for check in checks} == {"ok"}, checks)
        tell.fact("vm-a pings vm-b", await ping(a, b, count=3))


async def _by_hand(stage: Stage, host: str, command: str) -> None:
    stage.narrator.show([f"{host} # {command}"])
    await asyncio.to_thread(stage.host(host).run, command)


async def _drift_reports(stage: Stage, host: str) -> list[str]:
    """The agent's log lines of drift, shortened to what matters; the first is waited for."""
    log = stage.stack.hosts.agent_log(host)
    deadline = time.monotonic() + REPAIR_SECONDS
    while True:
        events = [json.loads(line) for line in log.read_text().splitlines() if '"event": "drift"' in line]
        if events or time.monotonic() > deadline:
            return [json.dumps({key: event[key] for key in ("event", "repaired", "differences")}) for event in events]
        await asyncio.sleep(0.05)
