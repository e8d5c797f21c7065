"""`L2VlanNetwork`: the frames of one IEEE 802.1Q VLAN on a physical interface."""

from collections.abc import Mapping
from typing import Any

from viaduct_common import naming
from viaduct_common.messages.base import StrictModel
from viaduct_common.messages.l2 import L2_VLAN, L2NetworkInventory, VlanFields
from viaduct_manager.l2_types.api import VmPort
from viaduct_manager.l2_types.bridgetype import BridgeType

VLAN_AWARE = "vlanAwareBridge"


class L2VlanType(BridgeType):
    """Backend `bridge`: a bridge and a VLAN device for each network. `vlanAwareBridge`: one bridge for all VLANs of an
    interface, whose ports are tagged."""

    l2_type: str = L2_VLAN
    fields: type[StrictModel] = VlanFields
    backends: tuple[str, ...] = ("bridge", VLAN_AWARE)

    def conflict_key(self, physical_interface: str, own_fields: Mapping[str, Any]) -> str:
        """One network per interface and VLAN id; the same id on another interface is another VLAN."""
        return f"vlan/{physical_interface}/{own_fields['vlan']}"

    def bridge_name(self, physical_interface: str, own_fields: Mapping[str, Any]) -> str:
        return naming.bridge_name(physical_interface, own_fields["vlan"])

    def device_names(self, physical_interface: str, own_fields: Mapping[str, Any]) -> list[str]:
        vlan = own_fields["vlan"]
        return [naming.bridge_name(physical_interface, vlan), naming.vlan_device_name(physical_interface, vlan)]

    def vm_port(self, network: L2NetworkInventory, backend: str) -> VmPort:
        if backend == VLAN_AWARE:
            return VmPort(naming.vlan_bridge_name(network.physical_interface), vlan=network.own_fields()["vlan"])
        return VmPort(network.bridge_name)
