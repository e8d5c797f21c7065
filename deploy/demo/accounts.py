"""Scene: one network with a range of VNIs, of which each account gets one."""

from dataclasses import dataclass
from uuid import uuid4

from demo.hypervisor import RunningVm, start_vm, told_of
from demo.stage import Stage, ping
from viaduct_common.messages.l2 import L2NetworkInventory

FIRST_VNI, LAST_VNI = 8000, 8099


@dataclass(frozen=True)
class Shared:
    """The network, and the VMs of the two accounts."""

    network: L2NetworkInventory
    alice: tuple[RunningVm, RunningVm]
    bob: tuple[RunningVm, RunningVm]


async def play(stage: Stage) -> Shared:
    """Return the network with two VMs of each account."""
    tell = stage.narrator
    with tell.scene(
        "One network, two accounts, a VNI each",
        f"Network grey has no VNI but a range, {FIRST_VNI} - {LAST_VNI}. The first VM of an account takes one for the "
        "account; hosts have it only while they have VMs of the account.",
    ):
        before = {name: set(await stage.links(name)) for name in stage.host_uuids}
        grey = await stage.vxlan_network("grey", vniRange={"startVni": FIRST_VNI, "endVni": LAST_VNI})
        for cluster in ("cluster1", "cluster2"):
            await stage.net.l2.attach(l2_network_uuid=grey.uuid, cluster_uuid=stage.clusters[cluster].uuid)
        after = {name: set(await stage.links(name)) for name in stage.host_uuids}
        tell.fact("attached to both clusters, and no host has made a thing", after == before, after)

        l3_uuid = await stage.subnet(grey, "grey-net")
        owners = {"alice": uuid4(), "bob": uuid4()}
        i = await start_vm(stage, "i", "host1", l3_uuid, owners["alice"])
        j = await start_vm(stage, "j", "host3", l3_uuid, owners["alice"])
        k = await start_vm(stage, "k", "host1", l3_uuid, owners["bob"])
        m = await start_vm(stage, "m", "host2", l3_uuid, owners["bob"])
        tell.show([f"{vm.line}, of {owner}" for owner, vms in (("alice", (i, j)), ("bob", (k, m))) for vm in vms])
        vnis = {name: await _vni(stage, vm) for name, vm in (("alice", i), ("bob", k))}
        good = len(set(vnis.values())) == 2 and all(FIRST_VNI <= vni <= LAST_VNI for vni in vnis.values())
        tell.fact(f"alice has VNI {vnis['alice']}, bob VNI {vnis['bob']}", good, vnis)
        for name, vm, wanted in (("alice", i, ["host1", "host3"]), ("bob", k, ["host1", "host2"])):
            rows = (await stage.net.realization.query(filters={"l2_network_uuid": vm.nic.l2_network_uuid})).items
            hosts = sorted(stage.host_name(row.host_uuid) for row in rows if row.state == "realized")
            tell.fact(f"{name}'s is realized where {name} has VMs: {' and '.join(hosts)}", hosts == wanted, rows)
        for vm, other, owner in ((i, j, "alice"), (j, i, "alice"), (k, m, "bob"), (m, k, "bob")):
            await told_of(stage, vm.host, other.nic, vnis[owner])
        tell.fact("alice's vm-i pings her vm-j", await ping(i, j))
        tell.fact("bob's vm-k pings his vm-m", await ping(k, m))
        tell.fact("alice's vm-i gets no answer from bob's vm-k on its own host", not await ping(i, k))
        tell.fact("bob's vm-m gets no answer from alice's vm-j", not await ping(m, j))
    return Shared(grey, (i, j), (k, m))


async def _vni(stage: Stage, vm: RunningVm) -> int:
    """The VNI of what the VM's account has of the network."""
    return int((await stage.net.l2.get(uuid=vm.nic.l2_network_uuid)).own_fields()["vni"])
