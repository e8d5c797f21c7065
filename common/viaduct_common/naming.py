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
    return _fit(readable, "br_", interface, vlan)


def vlan_device_name(interface: str, vlan: int) -> str:
    """`<interface>.<vlan>`, the hash when that is too long.

    >>> vlan_device_name("eth1", 10)
    'eth1.10'
    """
    return _fit(f"{interface}.{vlan}", "vl_", interface, vlan)


def _fit(readable: str, prefix: str, *parts: object) -> str:
    if len(readable) <= MAX_NAME:
        return readable
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()
    return prefix + digest[:_HASH_CHARS]
