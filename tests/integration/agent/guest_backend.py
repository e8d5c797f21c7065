"""Run inside a lab host: one method of a backend on its kernel, the outcome as one line of JSON.

python guest_backend.py realize|check|release GENERATION < inventory.json
"""

import asyncio
import json
import sys

from viaduct_agent.backends.api import L2Backend, L2OnHost, Registry
from viaduct_agent.backends.novlan import NoVlanBackend
from viaduct_agent.backends.vlan import VlanBackend
from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.netlink import Netlink
from viaduct_common.errors import ViaductError
from viaduct_common.messages.l2 import L2NetworkInventory


async def main(action: str, generation: int, body: str) -> dict[str, object]:
    network = L2NetworkInventory.from_json(body)
    want = L2OnHost(generation, network, network.physical_interface)
    kinds: list[type[L2Backend]] = [NoVlanBackend, VlanBackend]
    async with Netlink() as netlink:
        backend = Registry(kinds, HostLinks(netlink)).get(network.type)
        try:
            if action == "check":
                checked = await backend.check(want)
                return {
                    "present": checked.present,
                    "differences": [[d.device, d.attribute] for d in checked.differences],
                }
            changes = await (backend.realize(want) if action == "realize" else backend.release(want))
        except ViaductError as exc:
            return {"error": exc.to_body().model_dump(mode="json")}
        return {"changes": list(changes)}


print(json.dumps(asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.stdin.read()))))
