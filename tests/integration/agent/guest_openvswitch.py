"""Run inside a lab host: Open vSwitch on the host's kernel, and our backend for it, serving tests by lines of JSON.

One request: {"action": "realize" | "check" | "release", "item": L2Desired}
"""

import asyncio
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from viaduct_agent.backends.api import L2OnHost
from viaduct_agent.backends.ovsgre import OvsGreBackend
from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.netlink import Netlink
from viaduct_common.errors import ViaductError
from viaduct_common.messages.agent import L2Desired

PORT = 9
# ovs-vswitchd counts the processors only when its clock is past ten seconds: earlier it starts no handlers, for good,
# and drops every packet.
UPTIME_SECONDS = 10.5
DATABASE = "/etc/openvswitch/conf.db"
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"


def start_open_vswitch() -> None:
    for directory in ("/run/openvswitch", "/etc/openvswitch"):
        Path(directory).mkdir(parents=True, exist_ok=True)
    Path(DATABASE).unlink(missing_ok=True)
    daemon = ["--pidfile", "--detach", "--no-chdir", "--log-file=/dev/null"]
    run("ovsdb-tool", "create", DATABASE, SCHEMA)
    run("ovsdb-server", DATABASE, "--remote=punix:/run/openvswitch/db.sock", *daemon)
    run("ovs-vsctl", "--no-wait", "init")
    up = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    time.sleep(max(0.0, UPTIME_SECONDS - up))
    run("ovs-vswitchd", *daemon)


def run(*command: str) -> None:
    null = subprocess.DEVNULL
    subprocess.run(command, check=True, stdin=null, stdout=null, stderr=null, timeout=60)


async def work(backend: OvsGreBackend, action: str, item: dict[str, Any]) -> dict[str, Any]:
    want = L2OnHost.of(L2Desired.model_validate(item), {})
    try:
        if action == "check":
            checked = await backend.check(want)
            found = [[one.device, one.attribute] for one in checked.differences]
            return {"present": checked.present, "differences": found}
        changes = await (backend.realize(want) if action == "realize" else backend.release(want))
    except ViaductError as exc:
        return {"refused": exc.to_body().model_dump(mode="json")}
    return {"changes": list(changes)}


async def main() -> None:
    async with Netlink() as netlink:
        backend = OvsGreBackend(HostLinks(netlink))

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = json.loads(await reader.readline())
            answer = await work(backend, request["action"], request["item"])
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, os.environ["HOST_CONTROL"], PORT, limit=2**20)
        async with server:
            await server.serve_forever()


if __name__ == "__main__":
    start_open_vswitch()
    asyncio.run(main())
