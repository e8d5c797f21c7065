"""`L2VlanNetwork`: the frames of one IEEE 802.1Q VLAN on a physical interface."""

from collections.abc import Mapping
from typing import Any

from viaduct_common import naming
from viaduct_common.messages.base import StrictModel
from viaduct_common.messages.l2 import L2_VLAN, VlanFields


class L2VlanType:
    l2_type: str = L2_VLAN
    hypervisor_types: frozenset[str] = frozenset({"KVM"})
    fields: type[StrictModel] = VlanFields
    default_mtu: int = 1500

    def conflict_key(self, physical_interface: str, own_fields: Mapping[str, Any]) -> str:
        """One network per interface and VLAN id; the same id on another interface is another VLAN."""
        return f"vlan/{physical_interface}/{own_fields['vlan']}"

    def bridge_name(self, physical_interface: str, own_fields: Mapping[str, Any]) -> str:
        return naming.bridge_name(physical_interface, own_fields["vlan"])

    def device_names(self, physical_interface: str, own_fields: Mapping[str, Any]) -> list[str]:
        vlan = own_fields["vlan"]
        return [naming.bridge_name(physical_interface, vlan), naming.vlan_device_name(physical_interface, vlan)]
