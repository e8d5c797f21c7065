"""Derived device names: one function for each kind, every name fits the kernel's 15 characters (IFNAMSIZ - 1).

A readable name where it fits, else a stable hash of the same parts. Readable names of different networks can be
equal (`br_eth0_100` is interface `eth0_100` untagged, and VLAN 100 on `eth0`): whoever uses a name checks it.
"""

import hashlib

MAX_NAME = 15
_HASH_CHARS = 12


def bridge_name(interface: str, vlan: int | None = None) -> str:
    """`br_<interface>_<vlan>` or `br_<interface>`, the hash when that is too long.

    >>> bridge_name("eth1", 10)
    'br_eth1_10'
    >>> len(bridge_name("enp175s0f0np0", 4000))
    15
    """
    readable = f"br_{interface}" if vlan is None else f"br_{interface}_{vlan}"
    return fit(readable, "br_", interface, vlan)


def vlan_device_name(interface: str, vlan: int) -> str:
    """`<interface>.<vlan>`, the hash when that is too long.

    >>> vlan_device_name("eth1", 10)
    'eth1.10'
    """
    return fit(f"{interface}.{vlan}", "vl_", interface, vlan)


def vlan_bridge_name(interface: str) -> str:
    """`brv_<interface>`: the VLAN-aware bridge that all VLANs of an interface share.

    >>> vlan_bridge_name("eth1")
    'brv_eth1'
    """
    return fit(f"brv_{interface}", "bv_", interface)


def vxlan_bridge_name(vni: int) -> str:
    """`br_vx_<vni>`; 14 characters at most.

    >>> vxlan_bridge_name(16777215)
    'br_vx_16777215'
    """
    return f"br_vx_{vni}"


def vxlan_device_name(vni: int) -> str:
    """`vxlan<vni>`; 13 characters at most."""
    return f"vxlan{vni}"


def gre_bridge_name(key: int) -> str:
    """`br_gr_<key in hex>`; 14 characters at most.

    >>> gre_bridge_name(2**32 - 1)
    'br_gr_ffffffff'
    """
    return f"br_gr_{key:x}"


def gre_device_name(key: int, remote: str) -> str:
    """The tunnel to one peer: `gr` and a hash of key and address.

    >>> len(gre_device_name(7, "10.0.0.2"))
    14
    """
    return "gr" + _digest(key, remote)


def nic_device_name(nic_uuid: object) -> str:
    """`vnic` and the first eleven hex digits of the NIC's uuid: the tap of a VM's NIC.

    >>> nic_device_name("0123abcd-4567-89ab-cdef-000000000000")
    'vnic0123abcd456'
    """
    return "vnic" + str(nic_uuid).replace("-", "")[: MAX_NAME - 4]


def service_device_name(service_uuid: object, mac: str) -> str:
    """The host's end of a network service's leg, which is known by its MAC.

    >>> len(service_device_name("0123abcd-4567-89ab-cdef-000000000000", "fa:00:00:00:00:01"))
    14
    """
    return "vs" + _digest(service_uuid, mac)


def service_leg_name(mac: str) -> str:
    """The other end of it, in the service's namespace.

    >>> service_leg_name("fa:00:00:00:00:01")
    'outfa0000000001'
    """
    return "out" + mac.replace(":", "")


def fit(readable: str, prefix: str, *parts: object) -> str:
    """The readable name, or `prefix` (three characters at most) and a hash of the parts when that is too long."""
    if len(readable) <= MAX_NAME:
        return readable
    return prefix + _digest(*parts)


def _digest(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:_HASH_CHARS]
