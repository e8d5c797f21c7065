"""MAC addresses of VMs' NICs."""

import hashlib
from uuid import UUID

# Locally administered, of one interface (IEEE 802-2014, §8.2: the second lowest bit of the first octet is set, the
# lowest is not). Not `fe`, which libvirt gives to taps.
PREFIX = "fa:5d"


def derived_mac(nic_uuid: UUID, attempt: int) -> str:
    """The `attempt`-th choice for a NIC, from 0: stable, so that a request that is done again gets the same.

    >>> derived_mac(UUID(int=1), 0)
    'fa:5d:31:73:6a:8b'
    """
    digest = hashlib.sha256(nic_uuid.bytes + attempt.to_bytes(4, "big")).hexdigest()
    return ":".join([PREFIX, *(digest[i : i + 2] for i in range(0, 8, 2))])
