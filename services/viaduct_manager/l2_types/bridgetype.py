"""The answers of a type whose network is one bridge on each host, which is most of them."""

from collections.abc import Mapping
from typing import Any

from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_manager.l2_types.api import Span, VmPort


class BridgeType:
    """What such a type adds: `l2_type`, `fields`, `conflict_key`, `bridge_name`, `device_names`; see `L2Type`."""

    hypervisor_types: frozenset[str] = frozenset({"KVM"})
    backends: tuple[str, ...] = ("bridge",)
    tunnelled: bool = False

    def spans(self, own_fields: Mapping[str, Any]) -> tuple[Span, ...]:
        return ()

    def default_mtu(self, own_fields: Mapping[str, Any]) -> int:
        return 1500

    def at_vm_time(self, own_fields: Mapping[str, Any]) -> bool:
        return False

    def vm_port(self, network: L2NetworkInventory, backend: str) -> VmPort:
        return VmPort(network.bridge_name)
