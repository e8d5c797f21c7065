"""The agent's end on a kernel in memory: how a plugin is tested without root, in milliseconds."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from viaduct_agent.backends.api import L2OnHost
from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.model import Link
from viaduct_agent.testing import FakeKernel
from viaduct_common.errors import BackendFailed, InUse, InvalidRequest, PreconditionFailed
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_l2_macvtap.backend import MacvtapBackend
from viaduct_l2_macvtap.fields import L2_MACVTAP

NIC = Link("eth1", mac="52:54:00:00:00:01")
NAME = "mvl_eth1"


def want(generation: int = 1, **own: Any) -> L2OnHost:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    body = {"uuid": uuid4(), "name": "net", "zone_uuid": uuid4(), "physical_interface": "eth1", "type": L2_MACVTAP}
    body |= {"mtu": 1400, "bridge_name": "", "device_names": [NAME], "created_at": now, "updated_at": now}
    return L2OnHost(generation, L2NetworkInventory.model_validate({**body, "mode": "bridge", **own}), "eth1")


@pytest.fixture
def host() -> Callable[..., tuple[MacvtapBackend, FakeKernel]]:
    def make(*links: Link) -> tuple[MacvtapBackend, FakeKernel]:
        kernel = FakeKernel(links or [NIC])
        return MacvtapBackend(HostLinks(kernel)), kernel

    return make


Host = Callable[..., tuple[MacvtapBackend, FakeKernel]]


async def test_network_is_one_macvlan_device(host: Host) -> None:
    """Marked, with a MAC of its own, and its mode changes while it lives; nothing is left after the release."""
    backend, kernel = host()
    net = want()
    made = f"ip link add link eth1 name {NAME} mtu 1400 up type macvlan mode bridge"
    marked = f"ip link set dev {NAME} alias viaduct:{net.network.uuid}:1"
    assert (await backend.check(net)).steps == ("ip link set dev eth1 up", f"{made} && {marked}")
    assert await backend.realize(net)
    assert (kernel.links[NAME].owner, kernel.links[NAME].mac) == (net.network.uuid, None)
    assert not (await backend.check(net)).differences
    assert await backend.realize(net) == ()

    private = replace(net, network=net.network.model_copy(update={"mode": "private"}))
    assert await backend.realize(private) == (f"ip link set dev {NAME} type macvlan mode private",)
    assert await backend.release(net)
    assert set(kernel.links) == {"eth1"}
    assert await backend.release(net) == ()


async def test_network_is_not_released_under_vms(host: Host) -> None:
    """Unless it is forced; their devices stay in any case."""
    backend, kernel = host(NIC, Link("vnic0", kind="macvtap", parent="eth1"))
    net = want()
    assert await backend.release(net) == ()
    await backend.realize(net)
    assert isinstance((await backend.check(net, "release")).refusal, InUse)
    with pytest.raises(InUse) as refusal:
        await backend.release(net)
    assert refusal.value.details["ports"] == ["vnic0"]
    assert NAME in kernel.links
    assert await backend.release(replace(net, force=True))
    assert set(kernel.links) == {"eth1", "vnic0"}


async def test_what_cannot_be_built_changes_nothing(host: Host) -> None:
    """A field that is wrong, an MTU that is too large, a NIC that a bridge has, a refusal of the kernel."""
    bridged = (replace(NIC, master="br0"), Link("br0", kind="bridge", mac=NIC.mac))
    for links, net, kind in (
        ((NIC,), want(mode="passthru"), InvalidRequest),
        ((replace(NIC, mtu=1300),), want(), PreconditionFailed),
        (bridged, want(), PreconditionFailed),
    ):
        backend, kernel = host(*links)
        with pytest.raises(kind):
            await backend.realize(net)
        assert kernel.applied == []
    for step in (0, 1):
        backend, kernel = host()
        before = dict(kernel.links)
        kernel.fail_at = step
        with pytest.raises(BackendFailed):
            await backend.realize(want())
        assert dict(kernel.links) == before
