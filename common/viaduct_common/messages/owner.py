"""Owners: who holds addresses, as far as the manager knows them."""

from typing import Annotated, ClassVar

from pydantic import Field

from viaduct_common.messages.base import Request, Role
from viaduct_common.messages.fields import OwnerName


class LookUpOwners(Request[list[str]]):
    """Which of these owners the manager knows; IPAM asks it for an audit.

    An owner is known by the uuid of anything that the manager keeps (a host, an L3 network, ...), written as such."""

    message_type: ClassVar[str] = "owner.lookup"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    owners: Annotated[list[OwnerName], Field(max_length=1000)]
