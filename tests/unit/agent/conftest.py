"""Values that the agent's tests share."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from viaduct_agent.links.model import Link
from viaduct_common.messages.l2 import L2NetworkInventory

NIC_MAC = "02:00:00:00:00:01"


@pytest.fixture
def nic() -> Link:
    return Link(name="eth1", mac=NIC_MAC, up=True)


@pytest.fixture
def network() -> Callable[..., L2NetworkInventory]:
    """Make an inventory: of a VLAN network if `vlan` is given."""

    def make(uuid: UUID | None = None, vlan: int | None = None, interface: str = "eth1", **fields: Any) -> Any:
        bridge = f"br_{interface}" if vlan is None else f"br_{interface}_{vlan}"
        names = [bridge] if vlan is None else [bridge, f"{interface}.{vlan}"]
        own = {} if vlan is None else {"vlan": vlan}
        now = datetime(2026, 1, 1, tzinfo=UTC)
        values = {
            "uuid": uuid or uuid4(),
            "name": "net",
            "zone_uuid": uuid4(),
            "physical_interface": interface,
            "type": "L2NoVlanNetwork" if vlan is None else "L2VlanNetwork",
            "mtu": 1500,
            "bridge_name": bridge,
            "device_names": names,
            "created_at": now,
            "updated_at": now,
            **own,
            **fields,
        }
        return L2NetworkInventory(**values)

    return make
