"""Run inside a lab host: its backends, asked over the lab's control segment, one line of JSON each way.

{"action": "realize" | "check" | "release", "desired": an L2Desired} or {"action": "capabilities"}
"""

import asyncio
import json
import os
from typing import Any

from viaduct_agent.backends.api import GROUP, L2OnHost, Registry
from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.netlink import Netlink
from viaduct_common.errors import ViaductError
from viaduct_common.messages.agent import L2Desired
from viaduct_common.plugins import load_plugins

PORT = 8


async def answer(registry: Registry, request: dict[str, Any]) -> dict[str, Any]:
    if request["action"] == "capabilities":
        return {"capabilities": await registry.capabilities()}
    want = L2OnHost.of(L2Desired.from_json(json.dumps(request["desired"])), {})
    try:
        backend = registry.of(want)
        if request["action"] == "check":
            checked = await backend.check(want)
            differences = [[one.device, one.attribute] for one in checked.differences]
            return {"present": checked.present, "differences": differences, "steps": list(checked.steps)}
        changes = await (backend.realize(want) if request["action"] == "realize" else backend.release(want))
    except ViaductError as exc:
        return {"refusal": exc.to_body().model_dump(mode="json")}
    return {"changes": list(changes)}


async def main() -> None:
    async with Netlink() as netlink:
        registry = Registry(load_plugins(GROUP), HostLinks(netlink))

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(json.dumps(await answer(registry, json.loads(await reader.readline()))).encode() + b"\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(serve, os.environ["HOST_CONTROL"], PORT) as server:
            print("listening", flush=True)
            await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
