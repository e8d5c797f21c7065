"""A VLAN network, from nothing to an address for a VM: against a local stack (`make up`).

set -a; . .run/env; set +a; .venv/bin/python docs/examples/attach.py
"""

import asyncio
import os

from viaduct_common.client import ViaductClient


async def main() -> None:
    async with ViaductClient(os.environ["VIADUCT_AMQP_URL"]) as net:
        cluster = (await net.cluster.query(filters={"name": "cluster1"})).items[0]
        blue = await net.l2.create(
            zone_uuid=cluster.zone_uuid, name="blue", type="L2VlanNetwork", physical_interface="eth1", vlan=10
        )
        await net.l2.attach(l2_network_uuid=blue.uuid, cluster_uuid=cluster.uuid)  # on every host, or an error
        subnet = await net.l3.create(l2_network_uuid=blue.uuid, name="blue-subnet")
        await net.range.create(l3_network_uuid=subnet.uuid, network_cidr="192.168.10.0/24")
        [address] = await net.ip.allocate(l3_network_uuid=subnet.uuid, owner="vm1")
        print(f"{address.ip}/{address.prefix_length} via {address.gateway} on {blue.bridge_name}")


asyncio.run(main())
