"""The manager's end: what there is to know of the type without a host."""

from collections.abc import Mapping
from typing import Any

from viaduct_common.messages.base import StrictModel
from viaduct_l2_isolated.fields import L2_ISOLATED, IsolatedFields


class L2IsolatedType:
    """Implements `viaduct_manager.l2_types.api.L2Type`; every method is pure and must not block.

    `own_fields` has been validated by `fields`, and is as on the wire (camelCase).
    """

    l2_type: str = L2_ISOLATED
    hypervisor_types: frozenset[str] = frozenset({"KVM"})  # those for which `backend` exists
    fields: type[StrictModel] = IsolatedFields
    default_mtu: int = 1500

    def conflict_key(self, physical_interface: str, own_fields: Mapping[str, Any]) -> str:
        """Two networks of one key cannot be attached to one cluster. All types share one space of keys."""
        return f"isolated/{own_fields['number']}"

    def bridge_name(self, physical_interface: str, own_fields: Mapping[str, Any]) -> str:
        """At most 15 characters; shown in the inventory, recorded, and never computed again."""
        return f"br_iso_{own_fields['number']}"

    def device_names(self, physical_interface: str, own_fields: Mapping[str, Any]) -> list[str]:
        """All names taken on a host. The manager lets no other network of the cluster have one of them."""
        return [self.bridge_name(physical_interface, own_fields)]
