"""What hosts are to be told of one service instance: what should be, compared with what they were told last."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

Spec = Mapping[str, Any]


@dataclass(frozen=True)
class Told:
    """What a host was told last. `untold`: that it should have the instance was only noted, for its return."""

    host_uuid: UUID
    present: bool
    spec: Spec
    untold: bool = False


@dataclass(frozen=True)
class ServicePlan:
    """News only. `present`: the spec by host; `absent`: it is to go from there; `forget`: it never came there."""

    present: Mapping[UUID, Spec]
    absent: frozenset[UUID]
    forget: frozenset[UUID]

    @property
    def hosts(self) -> frozenset[UUID]:
        """Those of which something is news."""
        return frozenset(self.present) | self.absent | self.forget

    def among(self, hosts: Collection[UUID]) -> "ServicePlan":
        """What is news of these hosts."""
        present = {uuid: spec for uuid, spec in self.present.items() if uuid in hosts}
        return ServicePlan(present, self.absent & frozenset(hosts), self.forget & frozenset(hosts))


def plan(wanted: Mapping[UUID, Spec], told: Iterable[Told], leaving: Collection[UUID] = ()) -> ServicePlan:
    """Args:
    wanted: the spec by host; on all others it must not be.
    leaving: hosts that get nothing any more: unknown ones, and those that are being removed.
    """
    by_host = {one.host_uuid: one for one in told}
    present = {}
    for host_uuid, spec in wanted.items():
        former = by_host.get(host_uuid)
        if host_uuid not in leaving and (former is None or not former.present or former.spec != spec):
            present[host_uuid] = spec
    gone = {
        one.host_uuid: one for one in told if one.present and (one.host_uuid not in wanted or one.host_uuid in leaving)
    }
    forget = frozenset(uuid for uuid, one in gone.items() if one.untold)
    return ServicePlan(present, frozenset(gone) - forget, forget)
