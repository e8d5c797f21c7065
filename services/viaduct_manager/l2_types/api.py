"""Extension point `viaduct.l2_types`: what the manager must know of a type of L2 network."""

from collections.abc import Mapping
from typing import Any, Protocol

from viaduct_common.messages.base import StrictModel


class L2Type(Protocol):
    """One type of L2 network. All methods are pure and run inside a request; none may block.

    Attributes:
        l2_type: the value of `type` on the wire, such as `L2VlanNetwork`.
        hypervisor_types: those for which agents ship a backend.
        fields: the model of the type's own fields; it refuses unknown ones.
        default_mtu: bytes, for a network created without `mtu`.
    """

    l2_type: str
    hypervisor_types: frozenset[str]
    fields: type[StrictModel]
    default_mtu: int

    def conflict_key(self, physical_interface: str, own_fields: Mapping[str, Any]) -> str:
        """Two networks of one key cannot be attached to one cluster."""
        ...

    def bridge_name(self, physical_interface: str, own_fields: Mapping[str, Any]) -> str:
        """The bridge that VMs are plugged into."""
        ...

    def device_names(self, physical_interface: str, own_fields: Mapping[str, Any]) -> list[str]:
        """Every device name that the network takes on a host, the bridge's included."""
        ...
