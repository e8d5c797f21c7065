"""Scene: VMs' networks are released, the VXLAN networks detached, and nothing of them is left."""

from collections.abc import Mapping

from demo.accounts import Shared
from demo.hypervisor import RunningVm, stop_vm
from demo.links import Link
from demo.stage import Stage
from viaduct_common.messages.l2 import L2NetworkInventory

GONE_SECONDS = 15.0


async def play(
    stage: Stage,
    violet: L2NetworkInventory,
    vms: tuple[RunningVm, RunningVm],
    grey: Shared,
    before: Mapping[str, dict[str, Link]],
) -> None:
    """Take both networks away; `before` is what each host had without them."""
    tell, net = stage.narrator, stage.net
    with tell.scene(
        "Given back: vm.releaseNetworks, and nothing is left",
        "Each VM is stopped, then its networks are released. The last VM of an account on a host takes the account's "
        "network with it. At the end the networks are detached and deleted.",
    ):
        k, m = grey.bob
        await stop_vm(stage, m)
        tell.fact(f"vm-m was bob's only one on host2: {m.nic.bridge} goes", await _goes(stage, "host2", m.nic.bridge))
        tell.fact("and stays on host1, where vm-k is", k.nic.bridge in await stage.links("host1"))
        for vm in (k, *grey.alice, *vms):
            await stop_vm(stage, vm)
        for network in (violet, grey.network):
            for cluster in ("cluster1", "cluster2"):
                await net.l2.detach(l2_network_uuid=network.uuid, cluster_uuid=stage.clusters[cluster].uuid)

        async def as_before() -> bool:
            return {name: await stage.links(name) for name in before} == before

        took = await stage.until(as_before, timeout_seconds=GONE_SECONDS)
        left = {name: sorted(await stage.links(name)) for name in before}
        tell.fact("every host has the devices of before, the VLANs' among them, and no other", took is not None, left)
        l3_uuids = [vms[0].nic.l3_network_uuid, grey.alice[0].nic.l3_network_uuid]
        capacity = await net.ip.capacity(l3_network_uuids=l3_uuids)
        nics = (await net.nic.query()).items
        tell.fact("no NIC is recorded, no address in use", not nics and capacity.used == 0, (nics, capacity))
        for l3_uuid in l3_uuids:
            await net.l3.delete(uuid=l3_uuid)
        for network in (violet, grey.network):
            await net.l2.delete(uuid=network.uuid)
        names = sorted(network.name for network in (await net.l2.query()).items)
        tell.fact(f"the manager knows {' and '.join(names)} alone", names == ["blue", "red"], names)


async def _goes(stage: Stage, host: str, device: str) -> bool:
    """Tell whether a device leaves a host; it is waited for."""

    async def gone() -> bool:
        return device not in await stage.links(host)

    return await stage.until(gone, timeout_seconds=GONE_SECONDS) is not None
