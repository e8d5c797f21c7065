"""Which NICs may be in which groups. Pure."""

from collections.abc import Iterable, Set
from dataclasses import dataclass
from uuid import UUID

from viaduct_common.errors import Exhausted, NotFound, PreconditionFailed
from viaduct_manager.model.security_rules import MAX_GROUPS_OF_NIC


@dataclass(frozen=True)
class Joining:
    """A NIC is to be in a group.

    Attributes:
        field: of the NIC or group in the request, for `details.field`.
        others: how many groups the NIC is in beside.
    """

    nic_uuid: UUID
    l3_uuid: UUID
    group_uuid: UUID
    field: str
    others: int = 0


@dataclass(frozen=True)
class Grounds:
    """What is known of what is named: the groups that there are, (group, L3 network) pairs that are attached, and L3
    networks with the service."""

    groups: Set[UUID]
    attached: Set[tuple[UUID, UUID]]
    served: Set[UUID]


def refuse_joining(joining: Iterable[Joining], grounds: Grounds) -> None:
    """Raises:
    NotFound: there is no such group.
    PreconditionFailed: the NIC's L3 network does not have the service, or the group is not attached to it.
    Exhausted: the NIC is in as many groups as it can be.
    """
    for one in joining:
        where = {"field": one.field, "l3NetworkUuid": str(one.l3_uuid), "securityGroupUuid": str(one.group_uuid)}
        if one.group_uuid not in grounds.groups:
            missing = NotFound.of("security group", one.group_uuid)
            missing.details["field"] = one.field
            raise missing
        if one.l3_uuid not in grounds.served:
            raise PreconditionFailed(
                f"{one.field}: L3 network {one.l3_uuid} does not have the service SecurityGroup", **where
            )
        if (one.group_uuid, one.l3_uuid) not in grounds.attached:
            raise PreconditionFailed(
                f"{one.field}: security group {one.group_uuid} is not attached to L3 network {one.l3_uuid}", **where
            )
        if one.others >= MAX_GROUPS_OF_NIC:
            raise Exhausted(
                f"{one.field}: NIC {one.nic_uuid} is in {one.others} groups already",
                field=one.field,
                nicUuid=str(one.nic_uuid),
                limit=MAX_GROUPS_OF_NIC,
            )
