"""`OvsGreL2Network`: Ethernet over keyed GRE between the hosts' tunnel ends (RFC 2784, RFC 2890)."""

from collections.abc import Mapping
from typing import Any

from viaduct_common import naming
from viaduct_common.messages.base import StrictModel
from viaduct_common.messages.l2 import L2_OVS_GRE, L2NetworkInventory, OvsGreFields
from viaduct_manager.l2_types.api import Span, VmPort
from viaduct_manager.l2_types.bridgetype import BridgeType

OPENVSWITCH = "openvswitch"
# Of an underlay of 1500: IPv4 20, GRE with key 8 and the inner Ethernet header 14.
DEFAULT_MTU = 1500 - 42


class OvsGreType(BridgeType):
    """Backend `openvswitch`: a bridge of Open vSwitch with a port for each peer. `gretap`: the kernel's own devices on
    a Linux bridge."""

    l2_type: str = L2_OVS_GRE
    fields: type[StrictModel] = OvsGreFields
    backends: tuple[str, ...] = (OPENVSWITCH, "gretap")
    tunnelled: bool = True

    def conflict_key(self, physical_interface: str, own_fields: Mapping[str, Any]) -> str:
        return f"gre/{own_fields['key']}"

    def spans(self, own_fields: Mapping[str, Any]) -> tuple[Span, ...]:
        return (Span("gre", own_fields["key"], own_fields["key"]),)

    def bridge_name(self, physical_interface: str, own_fields: Mapping[str, Any]) -> str:
        return naming.gre_bridge_name(own_fields["key"])

    def device_names(self, physical_interface: str, own_fields: Mapping[str, Any]) -> list[str]:
        """The bridge's; a peer's device is named by a hash of key and address, made when there is a peer."""
        return [naming.gre_bridge_name(own_fields["key"])]

    def default_mtu(self, own_fields: Mapping[str, Any]) -> int:
        return DEFAULT_MTU

    def vm_port(self, network: L2NetworkInventory, backend: str) -> VmPort:
        return VmPort(network.bridge_name, virtual_port="openvswitch" if backend == OPENVSWITCH else None)
