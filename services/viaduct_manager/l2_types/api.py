"""Extension point `viaduct.l2_types`: what the manager must know of a type of L2 network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from viaduct_common.messages.base import StrictModel
from viaduct_common.messages.l2 import L2NetworkInventory


@dataclass(frozen=True)
class Span:
    """Numbers `first` to `last`, both included, that a network takes on a cluster.

    Spans of one space never overlap there; `space` is `vni`, `gre`, or a plugin's own.
    """

    space: str
    first: int
    last: int


@dataclass(frozen=True)
class VmPort:
    """Where a VM's NIC is plugged in: the bridge, and what its port there needs.

    `vlan` is the port's tag, None for a port without; `virtual_port` is libvirt's `<virtualport type>`. Without a
    bridge it is a macvtap device on `parent`, a device of the host's, in `mode` (ip-link(8)).
    """

    bridge: str = ""
    vlan: int | None = None
    virtual_port: Literal["openvswitch"] | None = None
    parent: str | None = None
    mode: Literal["bridge", "vepa", "private"] | None = None


class L2Type(Protocol):
    """One type of L2 network. All methods are pure and run inside a request; none may block.

    `bridgetype.BridgeType` has answers to all but the first questions that suit most types. `own_fields` has been
    validated by `fields`, and is as on the wire (camelCase).

    Attributes:
        l2_type: the value of `type` on the wire, such as `L2VlanNetwork`.
        hypervisor_types: those for which agents ship a backend.
        fields: the model of the type's own fields; it refuses unknown ones.
        backends: names of those that can build it, the usual one first; a cluster may choose another.
        tunnelled: its frames travel between tunnel ends of hosts, so each host is told of its peers.
    """

    l2_type: str
    hypervisor_types: frozenset[str]
    fields: type[StrictModel]
    backends: tuple[str, ...]
    tunnelled: bool

    def conflict_key(self, physical_interface: str, own_fields: Mapping[str, Any]) -> str:
        """Two networks of one key cannot be attached to one cluster."""
        ...

    def spans(self, own_fields: Mapping[str, Any]) -> tuple[Span, ...]:
        """Numbers that the network takes on a cluster, beside its key: no other may overlap them."""
        ...

    def bridge_name(self, physical_interface: str, own_fields: Mapping[str, Any]) -> str:
        """The bridge that hosts make for it; empty for a network without, or that is realised at VM time."""
        ...

    def device_names(self, physical_interface: str, own_fields: Mapping[str, Any]) -> list[str]:
        """Every device name that the network takes on a host, the bridge's included."""
        ...

    def default_mtu(self, own_fields: Mapping[str, Any]) -> int:
        """Bytes, for a network created without `mtu`."""
        ...

    def at_vm_time(self, own_fields: Mapping[str, Any]) -> bool:
        """True: an attach only allows it; what an account has of it is realised on the hosts of its VMs."""
        ...

    def vm_port(self, network: L2NetworkInventory, backend: str) -> VmPort:
        """Where a VM's NIC is plugged in on a host whose cluster has this backend (one of `backends`)."""
        ...
