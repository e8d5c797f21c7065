"""Which of a VM's NICs carries its default route."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from viaduct_common.errors import InvalidRequest


@dataclass(frozen=True)
class Candidate:
    """A NIC that a VM has, or is to get, in the order of its places; `default` of one that it has."""

    uuid: UUID
    l3_uuid: UUID
    default: bool = False


def choose_default(wanted_l3: UUID | None, nics: Sequence[Candidate]) -> UUID:
    """The first NIC on the L3 network that is asked for; else the one that is it already; else the first.

    Raises:
        InvalidRequest: no NIC is on that L3 network.
    """
    if wanted_l3 is not None:
        on_it = [nic.uuid for nic in nics if nic.l3_uuid == wanted_l3]
        if not on_it:
            raise InvalidRequest.of_field("defaultL3NetworkUuid", f"the VM has no NIC on L3 network {wanted_l3}")
        # It stays where it is if that is one of several there.
        return next((nic.uuid for nic in nics if nic.default and nic.uuid in on_it), on_it[0])
    return next((nic.uuid for nic in nics if nic.default), nics[0].uuid)
