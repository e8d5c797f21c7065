"""The manager's end: what there is to know of the type without a host."""

from collections.abc import Mapping
from typing import Any

from viaduct_common import naming
from viaduct_common.messages.base import StrictModel
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_l2_macvtap.fields import BACKEND, L2_MACVTAP, MacvtapFields
from viaduct_manager.l2_types.api import VmPort
from viaduct_manager.l2_types.bridgetype import BridgeType


class L2MacvtapType(BridgeType):
    """Implements `viaduct_manager.l2_types.api.L2Type`; every method is pure and must not block.

    BridgeType answers what is the same for most types: KVM, no tunnels, no spans, an MTU of 1500. `own_fields` has been
    validated by `fields`, and is as on the wire.
    """

    l2_type: str = L2_MACVTAP
    fields: type[StrictModel] = MacvtapFields
    backends: tuple[str, ...] = (BACKEND,)

    def conflict_key(self, physical_interface: str, own_fields: Mapping[str, Any]) -> str:
        """L2NoVlanNetwork's: both take the untagged frames of the interface, which has them for one of the two only."""
        return f"novlan/{physical_interface}"

    def bridge_name(self, physical_interface: str, own_fields: Mapping[str, Any]) -> str:
        """There is none."""
        return ""

    def device_names(self, physical_interface: str, own_fields: Mapping[str, Any]) -> list[str]:
        """All names taken on a host. The manager lets no other network of the cluster have one of them."""
        return [naming.fit(f"mvl_{physical_interface}", "ml_", physical_interface)]

    def vm_port(self, network: L2NetworkInventory, backend: str) -> VmPort:
        """On the network's own device: the name of the physical one is each host's own affair."""
        [parent] = network.device_names
        return VmPort(parent=parent, mode=network.own_fields()["mode"])
