"""`L2NoVlanNetwork`: the untagged frames of a physical interface."""

from collections.abc import Mapping
from typing import Any

from viaduct_common import naming
from viaduct_common.messages.base import StrictModel
from viaduct_common.messages.l2 import L2_NOVLAN, NoVlanFields
from viaduct_manager.l2_types.bridgetype import BridgeType


class L2NoVlanType(BridgeType):
    l2_type: str = L2_NOVLAN
    fields: type[StrictModel] = NoVlanFields

    def conflict_key(self, physical_interface: str, own_fields: Mapping[str, Any]) -> str:
        """One untagged network per interface; VLANs on the same interface are fine beside it."""
        return f"novlan/{physical_interface}"

    def bridge_name(self, physical_interface: str, own_fields: Mapping[str, Any]) -> str:
        return naming.bridge_name(physical_interface)

    def device_names(self, physical_interface: str, own_fields: Mapping[str, Any]) -> list[str]:
        return [naming.bridge_name(physical_interface)]
