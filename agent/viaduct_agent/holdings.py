"""What this host holds, and the newest generation seen of each thing. No database: marks on the host, read at start,
and what was commanded since."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from viaduct_agent.backends.api import L2OnHost
from viaduct_agent.links.marks import SHARED
from viaduct_common.digest import holdings_digest
from viaduct_common.messages.agent import Held

_TOMBSTONES = 10_000  # of things no longer held; a command older than ten thousand others will not come any more
_UNPROVEN = -1  # no manager ever has this generation, so the digest cannot match


class Wanted(Protocol):
    """What one thing on this host should be."""

    @property
    def uuid(self) -> UUID: ...

    @property
    def generation(self) -> int: ...


W = TypeVar("W", bound=Wanted)


@dataclass(frozen=True, slots=True)
class Holding(Generic[W]):
    """One thing here. `want` is None when only its marks are known (after a restart): what it should be is not.

    `broken`: the last repair failed, the host does not have it as it should.
    """

    generation: int
    want: W | None = None
    broken: bool = False


class HoldingsOf(Generic[W]):
    """Things of one sort by uuid, and fences: an older generation never overwrites a newer one."""

    def __init__(self) -> None:
        self._held: dict[UUID, Holding[W]] = {}
        self._refused: dict[UUID, W] = {}
        self._fences: OrderedDict[UUID, int] = OrderedDict()
        self._subscribers: list[Callable[[UUID], object]] = []

    def subscribe(self, subscriber: Callable[[UUID], object]) -> None:
        """Call it with each thing that is from now on realized, not realized or released."""
        self._subscribers.append(subscriber)

    def adopt(self, marked: Mapping[UUID, int]) -> None:
        """Take over what the marks say: the newest generation by owner. It counts as held, but not as proven: a sync is
        due, see `digest`."""
        for owner, found in marked.items():
            if owner != SHARED:
                generation = max(found, self._fences.get(owner, 0))
                self._held[owner] = Holding(generation)
                self._fences[owner] = generation

    def get(self, uuid: UUID) -> Holding[W] | None:
        return self._held.get(uuid)

    def fence(self, uuid: UUID) -> int | None:
        """The newest generation commanded, realised or released; None for one never heard of."""
        return self._fences.get(uuid)

    def fences(self) -> Mapping[UUID, int]:
        """A copy of all of them, to tell later what changed meanwhile."""
        return dict(self._fences)

    def admit(self, uuid: UUID, generation: int) -> bool:
        """Whether a command of this generation may be applied; if so, nothing older may from now on."""
        newest = self._fences.get(uuid)
        if newest is not None and generation < newest:
            return False
        self._fences[uuid] = generation
        self._fences.move_to_end(uuid)
        self._prune()
        return True

    def realized(self, want: W) -> None:
        self._held[want.uuid] = Holding(want.generation, want)
        self._refused.pop(want.uuid, None)
        self._publish(want.uuid)

    def not_realized(self, want: W) -> None:
        """A realize failed: whatever the host has of it is not what it should have."""
        self._held.pop(want.uuid, None)
        self._refused[want.uuid] = want
        self._publish(want.uuid)

    def released(self, uuid: UUID) -> None:
        self._held.pop(uuid, None)
        self._refused.pop(uuid, None)
        self._publish(uuid)

    def mark_broken(self, uuid: UUID, broken: bool) -> None:
        holding = self._held.get(uuid)
        if holding is not None:
            self._held[uuid] = replace(holding, broken=broken)

    def generations(self) -> dict[UUID, int]:
        """What is here, leftovers of a former process included."""
        return {uuid: holding.generation for uuid, holding in self._held.items() if not holding.broken}

    def digest(self) -> str:
        """Equal to the manager's only when everything here is as it should be.

        Things known by their marks alone are told with an impossible generation: what they should be is unknown until
        the sync that the difference brings, so drift that came while no agent ran is found, and so are leftovers.
        """
        return holdings_digest(
            (uuid, _UNPROVEN if holding.want is None else holding.generation)
            for uuid, holding in self._held.items()
            if not holding.broken
        )

    def watched(self) -> dict[UUID, W]:
        """Those whose wanted state is known, broken ones included."""
        return {uuid: holding.want for uuid, holding in self._held.items() if holding.want is not None}

    def wanted(self) -> dict[UUID, W]:
        """Those that this host was told to have, whether it could make them or not."""
        return self.watched() | self._refused

    def __len__(self) -> int:
        return len(self._held)

    def _publish(self, uuid: UUID) -> None:
        for subscriber in self._subscribers:
            subscriber(uuid)

    def _prune(self) -> None:
        excess = len(self._fences) - len(self._held) - _TOMBSTONES
        if excess <= 0:
            return
        for uuid in [uuid for uuid in self._fences if uuid not in self._held][:excess]:
            del self._fences[uuid]


class Holdings(HoldingsOf[L2OnHost]):
    """L2 networks."""

    def held(self) -> list[Held]:
        return [Held(l2_network_uuid=uuid, generation=number) for uuid, number in self.generations().items()]
