"""From what plans have decided to what is written and answered."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from viaduct_common.errors import ViaductError
from viaduct_common.messages.base import ErrorReply
from viaduct_common.messages.ipam import AllocateIp
from viaduct_common.postgres.idempotency import Answer, ok_reply
from viaduct_ipam.engine.work import Work
from viaduct_ipam.handlers.inventories import used_ip_inventory
from viaduct_ipam.model.state import Pick, ScopeState
from viaduct_ipam.store.api import UsedIp
from viaduct_ipam.store.giving import Given, ScopeWrite


@dataclass(frozen=True)
class Planned:
    """One scope's write, and whose answers it holds, in the same order."""

    write: ScopeWrite
    works: Sequence[Work]

    @property
    def answers(self) -> list[tuple[Work, bytes]]:
        return [(work, answer.body) for work, answer in zip(self.works, self.write.answers, strict=True)]

    def finish(self) -> None:
        """It is committed."""
        for work, body in self.answers:
            work.finish(body)


def to_write(
    state: ScopeState, outcomes: Iterable[tuple[Work, list[Pick] | bytes | ViaductError]], now: datetime
) -> Planned:
    """What becomes of the outcomes: picks of an allocation, the reply to something else, or a refusal.

    A refusal that a repetition may cure is not written: its message id stays free.
    """
    given: list[Given] = []
    answers: list[Answer] = []
    works: list[Work] = []
    for work, outcome in outcomes:
        if isinstance(outcome, ViaductError):
            if outcome.retryable:
                work.fail(outcome)
                continue
            body = ErrorReply(error=outcome.to_body()).to_json()
        elif isinstance(outcome, bytes):
            body = outcome
        else:
            assert isinstance(work.request, AllocateIp)
            mine = _give(work, work.request, outcome, now)
            given += mine
            body = allocation_reply(mine, now)
        sender, message_id = work.key
        answers.append(Answer(sender, message_id, work.request.message_type, body))
        works.append(work)
    write = ScopeWrite(state, state.revision, given, answers)
    write.count()
    return Planned(write, works)


def _give(work: Work, request: AllocateIp, picks: Sequence[Pick], now: datetime) -> list[Given]:
    sender, message_id = work.key
    expires_at = now + timedelta(seconds=request.ttl_seconds) if request.ttl_seconds is not None else None
    return [Given(uuid4(), pick, request.owner, request.mac, expires_at, sender, message_id) for pick in picks]


def allocation_reply(given: Iterable[Given], now: datetime) -> bytes:
    return ok_reply([
        used_ip_inventory(
            UsedIp(
                uuid=one.uuid,
                ip=one.pick.range.range.bounds.address(one.pick.ip),
                range=one.pick.range.range,
                owner=one.owner,
                mac=one.mac,
                allocated_at=now,
                expires_at=one.expires_at,
            )
        )
        for one in given
    ])  # fmt: skip


def by_scope(works: Iterable[Work]) -> dict[UUID, list[Work]]:
    """The work of each scope, in the order of arrival."""
    found: dict[UUID, list[Work]] = {}
    for work in works:
        found.setdefault(work.l3_network_uuid, []).append(work)
    return found
