"""Scene: a host is off while a network is attached to its cluster, and catches up when it returns."""

import asyncio
import os
import subprocess
import time

from demo.addresses import add_ranges
from demo.links import bridges_of
from demo.stage import Stage, ping
from local_stack.run_dir import CHECKOUT

VLAN = 30
LOST_SECONDS = 60.0
CAUGHT_UP_SECONDS = 60.0


async def play(stage: Stage) -> None:
    """Pull the plug of host2, attach a network, plug it in again."""
    tell, net = stage.narrator, stage.net
    with tell.scene(
        "A host without power, and how it catches up",
        f"The plug of host2 is pulled; then network green, VLAN {VLAN}, is attached to its cluster.",
    ):
        await asyncio.to_thread(stage.host("host2").stop, hard=True)

        async def lost() -> bool:
            return (await net.host.get(uuid=stage.host_uuids["host2"])).state != "connected"

        took = await stage.until(lost, timeout_seconds=LOST_SECONDS)
        tell.fact("the manager misses its heartbeats: host2 is disconnected", took is not None, seconds=took)
        green = await stage.vlan_network("green", VLAN)
        operation = await stage.attach(green, "cluster1")
        done = {stage.host_name(step.host_uuid): step.state for step in operation.steps if step.phase == "realize"}
        good = operation.state == "succeeded" and done == {"host1": "done", "host2": "skipped"}
        tell.fact("the attach succeeds: host1 has done it, host2 is skipped", good, operation)
        state = await _states(stage, "host2")
        tell.fact(f"what host2 owes is not forgotten: {state['green']}", state["green"] != "realized", state)
        table = await asyncio.to_thread(_operator_view, stage)
        tell.show_table(table, title="what an operator sees, with `viaduct status`:")
        seen = " ".join(table.split())
        tell.fact("the operator sees who is missing, and what", "host2 pending" in seen and "disconnected" in seen)

        tell.say("Power returns: host2 boots with an empty kernel, and its agent starts.")
        began = time.monotonic()
        await asyncio.to_thread(stage.host("host2").start)
        bare = await asyncio.to_thread(bridges_of, stage.host("host2"))
        tell.fact("after the boot host2 has no bridge at all", not bare, bare, seconds=time.monotonic() - began)
        began = time.monotonic()
        await asyncio.to_thread(stage.stack.start_agents, ["host2"])

        async def caught_up() -> bool:
            return set((await _states(stage, "host2")).values()) == {"realized"}

        await stage.until(caught_up, timeout_seconds=CAUGHT_UP_SECONDS)
        bridges = await asyncio.to_thread(bridges_of, stage.host("host2"))
        expected = ["br_eth1_10", "br_eth1_20", "br_eth1_30"]
        tell.fact(
            f"host2 has caught up on its own: {' '.join(bridges)}",
            bridges == expected and await caught_up(),
            await _states(stage, "host2"),
            seconds=time.monotonic() - began,
        )
        l3 = await net.l3.create(l2_network_uuid=green.uuid, name="green-net")
        await add_ranges(stage, l3.uuid)
        e = await stage.guest("e", "host1", green, l3.uuid)
        f = await stage.guest("f", "host2", green, l3.uuid)
        tell.fact("a VM on host1 pings one on host2, in the network it missed", await ping(e, f, count=2))


def _operator_view(stage: Stage) -> str:
    """Run the command line as an operator would."""
    url = stage.stack.broker.amqp_url()
    program = CHECKOUT / ".venv" / "bin" / "viaduct"
    done = subprocess.run(
        [program, "status"], env={**os.environ, "VIADUCT_AMQP_URL": url}, capture_output=True, text=True, check=False
    )
    return done.stdout or done.stderr


async def _states(stage: Stage, host: str) -> dict[str, str]:
    """The state of each network on a host, by its name."""
    rows = (await stage.net.realization.query(filters={"host_uuid": stage.host_uuids[host]})).items
    names = {network.uuid: network.name for network in (await stage.net.l2.query()).items}
    return {names[row.l2_network_uuid]: row.state for row in rows}
