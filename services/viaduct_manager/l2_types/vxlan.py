"""`L2VxlanNetwork`: Ethernet over UDP between the hosts' tunnel ends (RFC 7348)."""

from collections.abc import Mapping
from typing import Any

from viaduct_common import naming
from viaduct_common.messages.base import StrictModel
from viaduct_common.messages.l2 import L2_VXLAN, VxlanFields
from viaduct_manager.l2_types.api import Span
from viaduct_manager.l2_types.bridgetype import BridgeType

# Of an underlay of 1500: IPv4 20, UDP 8, VXLAN 8 and the inner Ethernet header 14. Over IPv6 it is 20 more; the hosts
# know what theirs is and refuse what does not fit.
DEFAULT_MTU = 1500 - 50


class L2VxlanType(BridgeType):
    """With `vni` an ordinary network. With `vniRange` nothing itself: each account gets one VNI of it, in a network of
    its own that is realised where its VMs are."""

    l2_type: str = L2_VXLAN
    fields: type[StrictModel] = VxlanFields
    tunnelled: bool = True

    def conflict_key(self, physical_interface: str, own_fields: Mapping[str, Any]) -> str:
        if self.at_vm_time(own_fields):
            [span] = self.spans(own_fields)
            return f"vxlan/{span.first}-{span.last}"
        return f"vxlan/{own_fields['vni']}"

    def spans(self, own_fields: Mapping[str, Any]) -> tuple[Span, ...]:
        """Whatever the UDP port: on a host a device is named after its VNI alone."""
        if self.at_vm_time(own_fields):
            vnis = own_fields["vniRange"]
            return (Span("vni", vnis["startVni"], vnis["endVni"]),)
        return (Span("vni", own_fields["vni"], own_fields["vni"]),)

    def bridge_name(self, physical_interface: str, own_fields: Mapping[str, Any]) -> str:
        return "" if self.at_vm_time(own_fields) else naming.vxlan_bridge_name(own_fields["vni"])

    def device_names(self, physical_interface: str, own_fields: Mapping[str, Any]) -> list[str]:
        if self.at_vm_time(own_fields):
            return []
        vni = own_fields["vni"]
        return [naming.vxlan_bridge_name(vni), naming.vxlan_device_name(vni)]

    def default_mtu(self, own_fields: Mapping[str, Any]) -> int:
        return DEFAULT_MTU

    def at_vm_time(self, own_fields: Mapping[str, Any]) -> bool:
        return own_fields.get("vniRange") is not None
