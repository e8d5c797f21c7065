"""Networks realized, checked and released a second by the agent's own code, against `ip` doing the same."""

import asyncio
import json
import os
import sys
from pathlib import Path

from lab import Lab

from bench.measure import Comparison, compare
from local_stack.run_dir import CHECKOUT
from local_stack.stack import Stack

NETWORKS = 1000
ROUNDS = 2
TITLE = f"Links, {NETWORKS} networks at once (baseline: one `ip -batch`; for check one raw netlink dump of all links)"
# Where each kind runs: VLAN devices need a kernel that has them, which a User-Mode Linux host brings.
PLACES = {"novlan": "netns", "vxlan": "netns", "vlan": "uml"}
SHOWN = {"novlan": "NoVlan", "vxlan": "VXLAN", "vlan": "VLAN"}
DEADLINE_SECONDS = 400.0
MEMORY = "1G"  # a thousand bridges do not fit into what a guest has by default
TEXT = {"create": "realize", "check": "check", "delete": "release"}
BASELINE = {"create": "ip -batch", "check": "a raw dump", "delete": "ip -batch"}
TARGETS = {"create": 1.5, "check": 3.0}


async def run(stack: Stack) -> list[Comparison]:
    """Measure in hosts of a lab of its own, where no agent looks."""
    lab = Lab(f"bench-{stack.run_dir.short_id}", stack.run_dir.path / "bench-lab")
    lab.down()  # what a killed run has left
    with lab:
        return [one for kind in PLACES for one in await asyncio.to_thread(_measure, lab, kind)]


def _measure(lab: Lab, kind: str) -> list[Comparison]:
    (host,) = lab.start_hosts([kind], kind=PLACES[kind], memory=MEMORY)
    paths = os.pathsep.join(str(Path(CHECKOUT) / folder) for folder in ("deploy", "tests"))
    command = [sys.executable, "-m", "bench.inside", kind, str(NETWORKS), str(ROUNDS)]
    result = host.run(command, env={"PYTHONPATH": paths}, timeout_seconds=DEADLINE_SECONDS)
    found = json.loads(result.stdout)
    host.stop(hard=True)
    where = "this kernel" if PLACES[kind] == "netns" else "a UML host"
    return [
        compare(
            f"{TEXT[step]} {SHOWN[kind]}, {where}",
            found["ours"][step],
            BASELINE[step],
            found["theirs"][step],
            unit="networks/s",
            target=TARGETS.get(step),
        )
        for step in TEXT
    ]
