"""`L2NoVlanNetwork`: the untagged frames of a physical interface."""

from collections.abc import Mapping
from typing import Any

from viaduct_common import naming
from viaduct_common.messages.base import StrictModel
from viaduct_common.messages.l2 import L2_NOVLAN, NoVlanFields


class L2NoVlanType:
    l2_type: str = L2_NOVLAN
    hypervisor_types: frozenset[str] = frozenset({"KVM"})
    fields: type[StrictModel] = NoVlanFields
    default_mtu: int = 1500

    def conflict_key(self, physical_interface: str, own_fields: Mapping[str, Any]) -> str:
        """One untagged network per interface; VLANs on the same interface are fine beside it."""
        return f"novlan/{physical_interface}"

    def bridge_name(self, physical_interface: str, own_fields: Mapping[str, Any]) -> str:
        return naming.bridge_name(physical_interface)

    def device_names(self, physical_interface: str, own_fields: Mapping[str, Any]) -> list[str]:
        return [naming.bridge_name(physical_interface)]
