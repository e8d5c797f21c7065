"""MAC addresses of VMs' NICs, and of what serves them."""

import hashlib
from uuid import UUID

# Locally administered, of one interface (IEEE 802-2014, §8.2: the second lowest bit of the first octet is set, the
# lowest is not). Not `fe`, which libvirt gives to taps.
PREFIX = "fa:5d"
# Of what network services have in a network: never a NIC's.
SERVICE_PREFIX = "fa:5e"


def derived_mac(nic_uuid: UUID, attempt: int) -> str:
    """The `attempt`-th choice for a NIC, from 0: stable, so that a request that is done again gets the same.

    >>> derived_mac(UUID(int=1), 0)
    'fa:5d:31:73:6a:8b'
    """
    return _mac(PREFIX, nic_uuid.bytes + attempt.to_bytes(4, "big"))


def service_mac(service_uuid: UUID, network_uuid: UUID) -> str:
    """Of a service instance in a network: the same on every host that ever has it.

    >>> service_mac(UUID(int=1), UUID(int=2))
    'fa:5e:f8:43:f5:fb'
    """
    return _mac(SERVICE_PREFIX, service_uuid.bytes + network_uuid.bytes)


def _mac(prefix: str, of: bytes) -> str:
    digest = hashlib.sha256(of).hexdigest()
    return ":".join([prefix, *(digest[i : i + 2] for i in range(0, 8, 2))])
