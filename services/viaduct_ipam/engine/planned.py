"""From what plans have decided to what is written and answered."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from uuid_utils import uuid7

from viaduct_common.errors import ViaductError
from viaduct_common.messages.base import ErrorReply
from viaduct_common.messages.ipam import AllocateIp
from viaduct_common.postgres.idempotency import Answer
from viaduct_ipam.engine import metrics
from viaduct_ipam.engine.replies import allocation_reply
from viaduct_ipam.engine.work import Work
from viaduct_ipam.model.state import Pick, ScopeState
from viaduct_ipam.store.giving import Given, ScopeWrite
from viaduct_ipam.store.rows import address_text


@dataclass(frozen=True)
class Planned:
    """One scope's write, and the answers that stand in it."""

    write: ScopeWrite
    answers: Sequence[tuple[Work, bytes]]

    @property
    def works(self) -> list[Work]:
        return [work for work, _ in self.answers]

    @staticmethod
    def kept(work: Work, body: bytes) -> Answer:
        """As it is stored for a repetition."""
        return Answer(*work.key, work.request.message_type, body)

    def finish(self) -> None:
        """It is committed."""
        metrics.allocated.inc(len(self.write.given))
        for work, body in self.answers:
            work.finish(body)


def to_write(
    state: ScopeState, outcomes: Iterable[tuple[Work, list[Pick] | bytes | ViaductError]], now: datetime
) -> Planned:
    """What becomes of the outcomes: picks of an allocation, the reply to something else, or a refusal."""
    given: list[Given] = []
    answers: list[tuple[Work, bytes]] = []
    for work, outcome in outcomes:
        if isinstance(outcome, bytes):
            answers.append((work, outcome))
        elif isinstance(outcome, ViaductError):
            answers.append((work, ErrorReply(error=outcome.to_body()).to_json()))
        else:
            assert isinstance(work.request, AllocateIp)
            mine = _give(work, work.request, outcome, now)
            given += mine
            answers.append((work, allocation_reply(mine)))
    kept = [Planned.kept(work, body) for work, body in answers]
    return Planned(ScopeWrite(state, given, kept), answers)


def _give(work: Work, request: AllocateIp, picks: Sequence[Pick], now: datetime) -> list[Given]:
    """Their uuids ascend with time (RFC 9562, version 7): the index of a million grows at its end, not everywhere."""
    expires_at = now + timedelta(seconds=request.ttl_seconds) if request.ttl_seconds is not None else None
    sender, message_id = work.key
    return [
        Given(
            str(uuid7()), pick, address_text(pick.range.version, pick.ip), request.owner, request.mac, now, expires_at,
            sender, message_id,
        )
        for pick in picks
    ]  # fmt: skip


def by_scope(works: Iterable[Work]) -> dict[UUID, list[Work]]:
    """The work of each scope, in the order of arrival."""
    found: dict[UUID, list[Work]] = {}
    for work in works:
        found.setdefault(work.l3_network_uuid, []).append(work)
    return found
