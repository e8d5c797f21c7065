"""Network services as their users meet them: requests over AMQP, then real clients in VMs on real hosts.

VMs ─ private network ─ router on a gateway host ─ public network ─ the world
"""

import asyncio
import os
import shlex
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from contract.plain import Plain
from integration.stack.cloud import WORLD, Cloud, RunningVm, other_address, until
from lab.features import running_kernel_supports

from local_stack.stack import Stack

pytestmark = [pytest.mark.lab, pytest.mark.slow]
ROUTED = {"VirtualRouter": ["DHCP", "DNS", "SNAT", "EIP", "PortForwarding"]}
GUARDED = {"Flat": ["DHCP"], "SecurityGroup": ["SecurityGroup"]}
MOVED_SECONDS = 60.0
SWEEP_SECONDS = 60.0  # what no event tells of is found so soon


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if missing := [feature for feature in ("bridge", "vxlan") if not running_kernel_supports(feature)]:
        reason = f"the running kernel lacks {missing}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with Stack(Path(tmp_path_factory.mktemp("stack")), hosts=3, host_kind="netns") as stack:
        yield stack


@pytest.fixture(scope="module")
async def furnished(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cloud]:
    env = dict(line.split("=", 1) for line in shlex.split((stack.run_dir.path / "env").read_text()) if "=" in line)
    async with Plain(env["VIADUCT_AMQP_URL"]) as net:
        hosts = {host["name"]: host for host in (await net.value("host.query", {}))["items"]}
        cloud = Cloud(stack, net, hosts, Path(tmp_path_factory.mktemp("vms")))
        await cloud.furnish()
        yield cloud


@pytest.fixture
async def cloud(furnished: Cloud) -> AsyncIterator[Cloud]:
    yield furnished
    await furnished.stop_all()


@pytest.fixture
async def world(cloud: Cloud) -> RunningVm:
    assert cloud.world is not None
    return cloud.world


async def test_vms_get_addresses_names_and_a_way_out(cloud: Cloud) -> None:
    """Those of the network and nobody else; a server outside sees the router's address."""
    l3 = await cloud.subnet(
        cloud.private,
        ROUTED,
        dnsDomain="inside.test",
        mtu=1300,
        hostRoutes=[{"prefix": "192.0.2.0/24", "nextHop": "10.1.0.9"}],
    )
    a, b = await cloud.start("a", "host1", l3, hostName="alpha"), await cloud.start("b", "host3", l3)
    got = await a.dhcp()
    assert (got["ip"], got["mask"], got["mtu"], got["domain"]) == (a.ip, "24", "1300", "inside.test")
    assert got["router"] == got["dns"] == a.nic["gateway"]
    assert "192.0.2.0" in await a.run("cat " + str(a.directory / "a.got")) or "staticroutes" in got or "opt249" in got
    assert (await b.dhcp())["ip"] == b.ip
    assert await a.pings(b.ip)
    name = f"ip-{b.ip.replace('.', '-')}.inside.test"
    assert await a.run(f"dig +short @{got['dns']} {name}") == b.ip
    assert await b.run(f"dig +short @{got['dns']} -x {a.ip}") == "alpha.inside.test."

    snat = next(one["config"] for one in l3["services"] if one["serviceType"] == "SNAT")
    assert await a.ask(WORLD, 80) == await b.ask(WORLD, 80) == snat["publicIp"]

    stranger = await asyncio.to_thread(cloud.stack.hosts.host("host2").add_vm, "stranger", cloud.private["bridgeName"])
    try:
        assert await RunningVm(stranger, {}, cloud.directory).dhcp(tries=2) == {}
    finally:
        await asyncio.to_thread(stranger.remove)


async def test_public_addresses_lead_to_vms(cloud: Cloud, world: RunningVm) -> None:
    """An EIP both ways, forwarded ports from allowed sources alone, and gone when they are deleted."""
    l3 = await cloud.subnet(cloud.private, ROUTED)
    a, b = await cloud.start("a", "host1", l3), await cloud.start("b", "host2", l3)
    for one in (a, b):
        await one.dhcp()
        await one.serve(8080, 8081)
    vip, shared = await cloud.vip(), await cloud.vip()
    eip = await cloud.net.value("eip.create", {"vipUuid": vip["uuid"], "name": "eip", "nicUuid": a.nic["uuid"]})
    body = {"vipUuid": shared["uuid"], "name": "pf", "protocol": "TCP", "nicUuid": b.nic["uuid"]}
    span = {"vipPortStart": 80, "vipPortEnd": 81, "privatePortStart": 8080, "privatePortEnd": 8081}
    allowed = await cloud.net.value("portForwarding.create", {**body, **span, "allowedCidr": f"{WORLD}/32"})
    refused = {"vipPortStart": 90, "privatePortStart": 8080, "allowedCidr": "203.0.113.0/24"}
    await cloud.net.value("portForwarding.create", {**body, **refused})
    await cloud.settled(eip["uuid"])
    await cloud.settled(allowed["uuid"])

    assert await world.ask(vip["ip"], 8080) == WORLD
    assert await a.ask(WORLD, 80) == vip["ip"]
    for port in (80, 81):
        assert await world.ask(shared["ip"], port) == WORLD
    assert await world.ask(shared["ip"], 90) == ""

    await cloud.net.value("eip.delete", {"uuid": eip["uuid"]})
    await cloud.settled(l3["uuid"])
    assert await world.ask(vip["ip"], 8080) == ""
    snat = next(one["config"] for one in l3["services"] if one["serviceType"] == "SNAT")
    assert await a.ask(WORLD, 80) == snat["publicIp"]


async def test_security_groups_admit_what_their_rules_say(cloud: Cloud) -> None:
    """From the VM's first packet on; a change to a group is there when `service.await` says so; no other's address."""
    l3 = await cloud.subnet(cloud.private, GUARDED)
    group = await cloud.net.value("securityGroup.create", {"name": "web"})
    attach = {"securityGroupUuid": group["uuid"], "l3NetworkUuids": [l3["uuid"]]}
    await cloud.net.value("securityGroup.attachL3", attach)
    web = await cloud.start("web", "host1", l3, securityGroupUuids=[group["uuid"]])
    near, far = await cloud.start("near", "host1", l3), await cloud.start("far", "host2", l3)
    for one in (web, near, far):
        assert (await one.dhcp())["ip"] == one.ip
    await web.serve(80, 81)
    for other in (near, far):
        assert await other.ask(web.ip, 80) == ""
        assert not await other.pings(web.ip)
    assert await web.pings(far.ip)

    rule = {"direction": "ingress", "protocol": "TCP", "ports": [{"start": 80}], "cidrs": [f"{far.ip}/32"]}
    body = {"securityGroupUuid": group["uuid"], "rules": [rule]}
    await cloud.net.value("securityGroup.addRules", body)
    await cloud.settled(group["uuid"])
    assert await far.ask(web.ip, 80) == far.ip
    assert (await far.ask(web.ip, 81), await near.ask(web.ip, 80)) == ("", "")

    join = {"securityGroupUuid": group["uuid"], "nicUuids": [near.nic["uuid"]]}
    await cloud.net.value("securityGroup.addNics", join)
    await cloud.settled(group["uuid"])
    assert await near.ask(web.ip, 81) == near.ip

    spoofed = other_address(far.ip)
    await far.run(f"ip addr add {spoofed}/24 dev eth0")
    assert await far.run(f"ping -n -q -c 2 -i 0.2 -W 1 -I {spoofed} {near.ip}", check=False) != ""
    assert "0 received" in await far.run(f"ping -n -c 2 -i 0.2 -W 1 -I {spoofed} {near.ip}", check=False)


async def test_what_another_hand_changes_is_found_and_mended(cloud: Cloud) -> None:
    """A check finds nothing on hosts that are as they should be, and what was changed; the agent mends it by itself."""
    l3 = await cloud.subnet(cloud.private, {"Flat": ["DHCP"], "SecurityGroup": ["SecurityGroup"]})
    a = await cloud.start("a", "host1", l3)
    await cloud.settled(l3["uuid"])

    async def statuses() -> dict[str, str]:
        found = await cloud.net.value("service.check", {"hostUuid": cloud.hosts["host1"]["uuid"]})
        return {one["kind"]: one["status"] for one in found}

    assert await statuses() == {"flat": "ok", "securityNic": "ok"}
    host = cloud.stack.hosts.host("host1")  # whose process ids are its own
    before = (await asyncio.to_thread(host.run, "pgrep dnsmasq")).stdout.split()
    assert len(before) == 1
    await asyncio.to_thread(host.run, f'kill -KILL {before[0]}; nft flush ruleset; test -z "$(nft list ruleset)"')

    async def mended() -> bool:
        now = (await asyncio.to_thread(host.run, "pgrep dnsmasq", check=False)).stdout.split()
        return now not in ([], before) and await statuses() == {"flat": "ok", "securityNic": "ok"}

    await until(mended, "the repair", seconds=2 * SWEEP_SECONDS)
    assert (await a.dhcp())["ip"] == a.ip


async def test_a_flat_network_is_served_on_each_host_by_itself(cloud: Cloud) -> None:
    """With the cable cut each VM still gets its address; none of it is heard elsewhere."""
    l3 = await cloud.subnet(cloud.private, {"Flat": ["DHCP", "DNS"]}, dnsDomain="flat.test")
    a, b = await cloud.start("a", "host1", l3, hostName="one"), await cloud.start("b", "host2", l3, hostName="two")
    with cloud.stack.hosts.lab.capture("trunk", "udp port 67 or udp port 68") as wire:
        got = [await one.dhcp() for one in (a, b)]
        assert [one["ip"] for one in got] == [a.ip, b.ip]
        assert got[0]["serverid"] == got[1]["serverid"]
        assert await a.run(f"dig +short @{got[0]['dns']} two.flat.test") == b.ip
        assert await a.pings(b.ip)
        assert wire.lines() == []


async def test_a_router_moves_when_its_host_dies(cloud: Cloud, world: RunningVm) -> None:
    """With its addresses: whoever was reached by an EIP is reached again; the host has no router when it returns."""
    l3 = await cloud.subnet(cloud.private, ROUTED)
    a = await cloud.start("a", "host1", l3)
    await a.dhcp()
    await a.serve(8080)
    vip = await cloud.vip()
    eip = await cloud.net.value("eip.create", {"vipUuid": vip["uuid"], "name": "eip", "nicUuid": a.nic["uuid"]})
    await cloud.settled(eip["uuid"])
    assert await world.ask(vip["ip"], 8080) == WORLD
    before = await cloud.gateway_of(l3)
    host = cloud.stack.hosts.host(before)
    await asyncio.to_thread(host.stop, hard=True)
    try:

        async def answers() -> bool:
            return await world.ask(vip["ip"], 8080) == WORLD

        took = await until(answers, "an answer by way of another gateway", seconds=MOVED_SECONDS)
        print(f"the router was away for {took:.1f} s")
        after = await cloud.gateway_of(l3)
        assert after not in ("", before)
        assert await a.ask(WORLD, 80) == vip["ip"]
    finally:
        await asyncio.to_thread(host.start)
        await asyncio.to_thread(cloud.stack.start_agents, [before])

    async def returned() -> bool:
        return (await cloud.net.value("host.get", {"uuid": cloud.hosts[before]["uuid"]}))["state"] == "connected"

    await until(returned, "the host")
    await cloud.settled(l3["uuid"])
    assert await cloud.gateway_of(l3) == after


async def test_what_is_given_back_leaves_nothing(cloud: Cloud) -> None:
    """No device, namespace, rule or program on any host, no address in use."""
    hosts = [cloud.stack.hosts.host(name) for name in cloud.hosts]

    async def seen() -> list[str]:
        command = "ip -br link | sort; ip netns list | sort; nft list tables; pgrep -a dnsmasq; true"
        return [(await asyncio.to_thread(host.run, command)).stdout for host in hosts]

    before = await seen()
    types = {"VirtualRouter": ["DNS", "SNAT", "EIP"], **GUARDED}
    l3 = await cloud.subnet(cloud.private, types)
    group = await cloud.net.value("securityGroup.create", {"name": "all"})
    attach = {"securityGroupUuid": group["uuid"], "l3NetworkUuids": [l3["uuid"]]}
    await cloud.net.value("securityGroup.attachL3", attach)
    for number, host in enumerate(cloud.hosts):
        await cloud.start(f"v{number}", host, l3, securityGroupUuids=[group["uuid"]])
    assert await seen() != before
    vms = [one.nic["uuid"] for one in cloud.vms]
    refusal = await cloud.net.refusal("securityGroup.delete", {"uuid": group["uuid"]})
    assert refusal["code"] == "IN_USE", (refusal, vms)
    await cloud.stop_all()
    await cloud.net.value("securityGroup.delete", {"uuid": group["uuid"]})
    providers = {one["providerUuid"] for one in l3["services"]}
    by_provider = {
        uuid: [one["serviceType"] for one in l3["services"] if one["providerUuid"] == uuid] for uuid in providers
    }
    await cloud.net.value("l3.detachServices", {"l3NetworkUuid": l3["uuid"], "services": by_provider})

    async def as_before() -> bool:
        return await seen() == before

    await until(as_before, "hosts as they were")
    await cloud.net.value("l3.delete", {"uuid": l3["uuid"]})
