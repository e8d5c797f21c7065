"""The manager's end: what there is to know of the type without a host."""

from collections.abc import Mapping
from typing import Any

from viaduct_common.messages.base import StrictModel
from viaduct_l2_isolated.fields import L2_ISOLATED, IsolatedFields
from viaduct_manager.l2_types.bridgetype import BridgeType


class L2IsolatedType(BridgeType):
    """Implements `viaduct_manager.l2_types.api.L2Type`; every method is pure and must not block.

    BridgeType answers what is the same for most types: hypervisors (KVM), one backend named `bridge`, no tunnels, an
    MTU of 1500, VMs plugged into `bridge_name`. `own_fields` has been validated by `fields`, and is as on the wire.
    """

    l2_type: str = L2_ISOLATED
    fields: type[StrictModel] = IsolatedFields

    def conflict_key(self, physical_interface: str, own_fields: Mapping[str, Any]) -> str:
        """Two networks of one key cannot be attached to one cluster. All types share one space of keys."""
        return f"isolated/{own_fields['number']}"

    def bridge_name(self, physical_interface: str, own_fields: Mapping[str, Any]) -> str:
        """At most 15 characters; shown in the inventory, recorded, and never computed again."""
        return f"br_iso_{own_fields['number']}"

    def device_names(self, physical_interface: str, own_fields: Mapping[str, Any]) -> list[str]:
        """All names taken on a host. The manager lets no other network of the cluster have one of them."""
        return [self.bridge_name(physical_interface, own_fields)]
