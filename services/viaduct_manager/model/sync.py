"""Does a host hold what it should, and is it time to tell it?"""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from viaduct_common.digest import holdings_digest

# So many heartbeats in a row that differ are no accident, even if something is always in motion: a network whose peers
# come and go all the time must not keep its hosts from being told what they lack.
PATIENCE_BEATS = 5
# Of realizations, and of service instances.
MOVING = frozenset({"pending", "realizing", "releasing", "applying", "removing"})
DONE = frozenset({"realized", "applied"})


@dataclass(frozen=True)
class Wanted:
    """One row of a host's desired state, as far as the comparison needs it: an L2 network, or a service instance.
    `observed`: the host is known to have done this generation; one that was only told of other peers is `realized` and
    not observed."""

    uuid: UUID
    generation: int
    desired: str
    state: str
    age_seconds: float
    observed: bool = True


def expected_digest(rows: Iterable[Wanted]) -> str:
    """The digest of a host that holds exactly what it should; what failed there is not expected."""
    return holdings_digest(
        (row.uuid, row.generation) for row in rows if row.desired == "present" and row.state != "failed"
    )


def needs_sync(
    rows: list[Wanted], digest: str, *, settle_seconds: float, since_sync_seconds: float | None, beats: int = 0
) -> bool:
    """True when the host differs, nothing about it is in motion, and it was not told just now.

    Args:
        digest: what the host says it holds.
        settle_seconds: younger changes have a command under way; let it arrive.
        since_sync_seconds: age of the last sync sent, None if there was none.
        beats: heartbeats in a row before this one that differed.
    """
    if digest == expected_digest(rows):
        return False
    if beats < PATIENCE_BEATS and any(row.age_seconds < settle_seconds for row in rows):
        return False
    return since_sync_seconds is None or since_sync_seconds >= settle_seconds


def settled(rows: list[Wanted], digest: str, *, settle_seconds: float) -> list[Wanted]:
    """The rows still in motion that an equal digest proves to be done: their completions were lost."""
    if digest != expected_digest(rows):
        return []
    return [
        row
        for row in rows
        if (row.state in MOVING or (row.state in DONE and not row.observed)) and row.age_seconds >= settle_seconds
    ]
