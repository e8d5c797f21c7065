"""NICs as hypervisors need them."""

from typing import Any

from viaduct_common.messages.vm import NicInventory
from viaduct_manager.l2_types.registry import L2Types
from viaduct_manager.model.libvirt import interface_element
from viaduct_manager.store.nics import Nic


class NicInventories:
    """Where a NIC is plugged in is its L2 type's to say, by the backend of the cluster."""

    def __init__(self, l2_types: L2Types) -> None:
        self._types = l2_types

    def of(self, nic: Nic) -> NicInventory:
        """As it is plugged in on the host that the NIC was read for; see `store.nics.get`."""
        network = nic.network
        backend = self._types.backend_of(network.type, nic.backends)
        port = self._types.get(network.type).vm_port(network, backend)
        fields: dict[str, Any] = {
            "uuid": nic.uuid,
            "vm_uuid": nic.vm_uuid,
            "host_uuid": nic.host_uuid,
            "account_uuid": nic.account_uuid,
            "l3_network_uuid": nic.l3_uuid,
            "l2_network_uuid": network.uuid,
            "device_index": nic.device_index,
            "device_name": nic.device_name,
            "default": nic.default,
            "host_name": nic.host_name,
            "mac": nic.mac,
            "bridge": port.bridge,
            "vlan": port.vlan,
            "virtual_port": port.virtual_port,
            "parent": port.parent,
            "mode": port.mode,
            "mtu": network.mtu,
            "ips": nic.ips,
            "gateway": nic.ips[0].gateway if nic.ips else None,
            "migrating_to_host_uuid": nic.migrating_to_host_uuid,
            "created_at": nic.created_at,
            "libvirt_xml": interface_element(
                mac=nic.mac,
                bridge=port.bridge,
                device=nic.device_name,
                mtu=network.mtu,
                vlan=port.vlan,
                virtual_port=port.virtual_port,
                parent=port.parent,
                mode=port.mode,
            ),
        }
        return NicInventory.model_validate(fields)

    def of_all(self, nics: list[Nic]) -> list[NicInventory]:
        return [self.of(nic) for nic in nics]
