"""On which host a router lives, and when it moves. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from viaduct_common.errors import PreconditionFailed

LABEL = "gateway"
CAPABILITY = "service/virtualRouter"


@dataclass(frozen=True)
class Candidate:
    """A host that could have a router, or has it.

    Attributes:
        leaving: it is in maintenance, or being removed.
        attached: the L2 networks of its cluster; realized: those that it has.
        routers: how many it has already.
    """

    uuid: UUID
    name: str
    zone_uuid: UUID
    labelled: bool
    connected: bool
    leaving: bool
    capable: bool
    attached: frozenset[UUID]
    realized: frozenset[UUID]
    routers: int

    def unfit(self, needed: Collection[UUID], *, has_it: bool = False) -> str | None:
        """Why it cannot have the router, None if it can. One that has it keeps it while its networks are rebuilt."""
        lacking = sorted(set(needed) - self.attached)
        unrealized = [] if has_it else sorted(set(needed) - self.realized)
        reasons = (
            (not self.labelled, f"is not labelled {LABEL}=true"),
            (self.leaving, "is in maintenance, or being removed"),
            (not self.connected, "is not connected"),
            (not self.capable, f"does not have the capability {CAPABILITY}"),
            (bool(lacking), f"is in a cluster without L2 networks {', '.join(map(str, lacking))}"),
            (bool(unrealized), f"has not realized L2 networks {', '.join(map(str, unrealized))}"),
        )
        return next((words for is_so, words in reasons if is_so), None)


@dataclass(frozen=True)
class Placement:
    """`left_out` are L2 networks that the host does not have; `problem` says why it is there so, or nowhere."""

    host_uuid: UUID | None
    left_out: frozenset[UUID] = frozenset()
    problem: PreconditionFailed | None = None


def choose_gateway(candidates: Sequence[Candidate], current: UUID | None, needed: Collection[UUID]) -> UUID | None:
    """The current host while it is fit; else of those that are the one with the least routers, by its uuid of two."""
    fit = [one for one in candidates if one.unfit(needed, has_it=one.uuid == current) is None]
    if any(one.uuid == current for one in fit):
        return current
    return min(fit, key=lambda one: (one.routers, one.uuid)).uuid if fit else None


def place(
    candidates: Sequence[Candidate], current: UUID | None, inside: UUID, outside: Collection[UUID], what: str
) -> Placement:
    """Where the router is to be.

    A host without one of the public networks is better than none: VMs have their DHCP and DNS, and what cannot be had
    waits. And a host that is away is better than none: it may serve all the same, and would have to take the router
    away and make it again when it is back.

    Args:
        inside, outside: the L2 networks that it needs.
        what: the router, for the words of the problem.
    """
    needed = {inside, *outside}
    if (chosen := choose_gateway(candidates, current, needed)) is not None:
        return Placement(chosen)
    reasons = {one.uuid: one.unfit(needed, has_it=one.uuid == current) for one in candidates}
    problem = PreconditionFailed(
        f"no host is fit for {what}" if candidates else f"no host is labelled {LABEL}=true: {what} has no place",
        hosts={str(one.uuid): f"{one.name} {reasons[one.uuid]}" for one in candidates},
    )
    by_lack = [replace(one, routers=len(needed - one.realized) * 1_000_000 + one.routers) for one in candidates]
    if (chosen := choose_gateway(by_lack, current, {inside})) is not None:
        has = next(one.attached if one.uuid == current else one.realized for one in candidates if one.uuid == chosen)
        return Placement(chosen, frozenset(needed - has), problem)
    for one in candidates:
        if one.uuid == current and replace(one, connected=True).unfit({inside}, has_it=True) is None:
            return Placement(current, frozenset(needed - one.attached), problem)
    return Placement(None, problem=problem)
