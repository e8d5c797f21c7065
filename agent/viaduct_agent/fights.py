"""What drifts again and again: repairs are put off longer and longer, and from the third on it is a storm.

Another program wants the host otherwise; only an operator can end that.
"""

import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from uuid import UUID

import structlog
from prometheus_client import Counter, Gauge

from viaduct_common.messages.agent import HealthFact

log = structlog.get_logger()
STORMS = Counter("viaduct_agent_drift_storms", "Networks and services that began to drift again and again")
FOUGHT_OVER = Gauge("viaduct_agent_drift_fought_over", "Networks and services that drift again and again now")
WINDOW_SECONDS = 300.0  # repairs count for so long; after so long a peace the next one is again done at once
STORM_REPAIRS = 3
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
_MOST_NAMED = 10


@dataclass(slots=True)
class _Fight:
    """`pause`, in seconds, is from the `last` attempt to the next and doubles with each, from one second to a minute;
    `repairs` are the times of those that succeeded."""

    last: float
    pause: float = 0.0
    repairs: deque[float] = field(default_factory=deque)
    storm: bool = False


class Fights:
    """By uuid, of things of one sort; `fact` is what their health is called. `clock` tells seconds, and never goes
    back."""

    def __init__(self, fact: str = "drift_storm", *, clock: Callable[[], float] = time.monotonic) -> None:
        self._fact = fact
        self._clock = clock
        self._counted = 0
        self._fights: dict[UUID, _Fight] = {}

    def ready_at(self, uuid: UUID) -> float:
        """Not before may it be tried again."""
        fight = self._fights.get(uuid)
        return 0.0 if fight is None else fight.last + fight.pause

    def tried(self, uuid: UUID, *, repaired: bool) -> None:
        """An attempt was made. One that failed is put off as well, but nobody fights there."""
        now = self._clock()
        fight = self._fights.get(uuid)
        if fight is None or now - fight.last > WINDOW_SECONDS:
            fight = self._fights[uuid] = _Fight(now, storm=fight is not None and fight.storm)
        fight.last = now
        fight.pause = min(max(_FIRST_PAUSE_SECONDS, fight.pause * 2), _LONGEST_PAUSE_SECONDS)
        if repaired:
            fight.repairs.append(now)
        if not fight.storm and self.repairs(uuid) >= STORM_REPAIRS:
            fight.storm = True
            STORMS.inc()
            log.warning("drift_storm", uuid=str(uuid), repairs=len(fight.repairs))
        self._count()

    def repairs(self, uuid: UUID) -> int:
        """In the last five minutes."""
        fight = self._fights.get(uuid)
        if fight is None:
            return 0
        while fight.repairs and self._clock() - fight.repairs[0] > WINDOW_SECONDS:
            fight.repairs.popleft()
        return len(fight.repairs)

    def is_storm(self, uuid: UUID) -> bool:
        """From the third repair within five minutes until five minutes passed without one."""
        fight = self._fights.get(uuid)
        return fight is not None and fight.storm

    def forget_old(self, watched: Collection[UUID]) -> list[UUID]:
        """Drop what is over, and what is not `watched` any more; return the watched ones whose storm ended."""
        ended = []
        for uuid, fight in list(self._fights.items()):
            over = self._clock() - fight.last > WINDOW_SECONDS
            calm = over or not self.repairs(uuid)
            if fight.storm and (calm or uuid not in watched):
                fight.storm = False
                log.warning("drift_storm_over", uuid=str(uuid))
                ended += [uuid] if uuid in watched else []
            if over or uuid not in watched:
                del self._fights[uuid]
        self._count()
        return ended

    def health(self) -> HealthFact:
        """Not ok while a storm lasts."""
        storms = sorted(str(uuid) for uuid, fight in self._fights.items() if fight.storm)
        more = f" and {len(storms) - _MOST_NAMED} more" if len(storms) > _MOST_NAMED else ""
        detail = f"another program changes again and again: {', '.join(storms[:_MOST_NAMED])}{more}" if storms else ""
        return HealthFact(name=self._fact, ok=not storms, detail=detail)

    def _count(self) -> None:
        before, self._counted = self._counted, sum(fight.storm for fight in self._fights.values())
        FOUGHT_OVER.inc(self._counted - before)
