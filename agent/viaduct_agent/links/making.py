"""Applying plans: many steps in one send, each accounted for; blocking, for the worker thread."""

import random
import time
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass

from viaduct_agent.links import parse, requests
from viaduct_agent.links.addresses import Address, Route
from viaduct_agent.links.correcting import correct_flags
from viaduct_agent.links.dialogue import Dialogue
from viaduct_agent.links.kernel import Applied
from viaduct_agent.links.model import AddEntry, AddLink, DelEntry, DelLink, SetLink, Step, with_values
from viaduct_agent.links.requests import KernelError, as_failure

_MESSAGES_AT_ONCE = 64  # in one send: RTNL is free between sends, so that a VM's tap waits some 20 ms at most
_RUNNING_ATTEMPTS, _RUNNING_PAUSE_SECONDS = 200, 0.002  # a NIC without a carrier never is
# Far above what the kernel gives out (it counts from 1), far below the end of its 31 bits.
_FIRST_INDEX, _LAST_INDEX = 0x4000_0000, 0x7000_0000


@dataclass(frozen=True, slots=True)
class _Job:
    """One step of one plan, encoded."""

    plan: int
    step: Step
    messages: list[bytearray]


def apply_plans(
    dialogue: Dialogue, plans: Sequence[Sequence[Step]], indexes: MutableMapping[str, int]
) -> list[Applied]:
    """See `Kernel.apply`."""
    applied = [Applied() for _ in plans]
    batch: list[_Job] = []
    for job in _jobs(dialogue, plans, indexes, applied):
        if batch and _must_wait(job.step, batch):
            # The kernel goes on after a refusal; what replaces a device, or an address, must be there before it goes.
            _send(dialogue, batch, indexes, applied)
            _wait_until_running(dialogue, job.step, batch, indexes)
            batch = []
            if applied[job.plan].refusal is not None:
                continue
        batch.append(job)
        if sum(len(one.messages) for one in batch) >= _MESSAGES_AT_ONCE:
            _send(dialogue, batch, indexes, applied)
            batch = []
    _send(dialogue, batch, indexes, applied)
    correct_flags(dialogue, (step for result in applied for step in result.done), indexes)
    return applied


def _wait_until_running(dialogue: Dialogue, step: Step, batch: list[_Job], indexes: MutableMapping[str, int]) -> None:
    """A bridge drops what it is to send until the kernel, in a work of its own, has seen that it has a port that can
    carry it (net/core/link_watch.c): the first ARP request would be lost, and the next one comes a second later."""
    if not isinstance(step, AddEntry) or not _enslaves(batch, step.device) or step.device not in indexes:
        return
    for _ in range(_RUNNING_ATTEMPTS):
        (bodies,) = dialogue.ask([requests.get(None, indexes[step.device])])
        if not bodies or parse.is_running(bodies[0]):
            return
        time.sleep(_RUNNING_PAUSE_SECONDS)


def _enslaves(batch: list[_Job], master: str) -> bool:
    steps = [job.step for job in batch]
    return any(isinstance(step, SetLink) and step.after.master == master for step in steps)


def _must_wait(step: Step, batch: list[_Job]) -> bool:
    if isinstance(step, AddEntry) and isinstance(step.entry, Address | Route):
        return _enslaves(batch, step.device)
    if isinstance(step, DelEntry) and isinstance(step.entry, Address | Route):
        return not all(isinstance(job.step, DelEntry) for job in batch)
    return isinstance(step, DelLink)


def _jobs(
    dialogue: Dialogue, plans: Sequence[Sequence[Step]], indexes: MutableMapping[str, int], applied: list[Applied]
) -> Iterator[_Job]:
    fresh = iter(_free_indexes(dialogue, sum(isinstance(step, AddLink) for steps in plans for step in steps)))
    for number, steps in enumerate(plans):
        for step in steps:
            if applied[number].refusal is not None:
                break
            if isinstance(step, AddLink):
                step = AddLink(with_values(step.link, index=next(fresh)))  # noqa: PLW2901 - the same step, numbered
            try:
                messages = list(requests.of_step(step, indexes))
            except KernelError as refusal:
                applied[number].refusal = as_failure(refusal, step.command, step.device)
                break
            if isinstance(step, AddLink):
                indexes[step.link.name] = step.link.index
            yield _Job(number, step, messages)


def _send(dialogue: Dialogue, batch: list[_Job], indexes: MutableMapping[str, int], applied: list[Applied]) -> None:
    outcomes = iter(dialogue.tell([message for job in batch for message in job.messages]))
    for job in batch:
        refusals = [next(outcomes) for _ in job.messages]
        result = applied[job.plan]
        refusal = next((one for one in refusals if one is not None), None)
        if refusal is not None and requests.tolerated(job.step, refusal.errno or 0):
            refusal = None
        if refusal is None:
            if isinstance(job.step, DelLink):
                indexes.pop(job.step.link.name, None)
            result.done.append(job.step)  # also after a refusal: the kernel went on, so it is there to be undone
            continue
        if isinstance(job.step, AddLink):
            indexes.pop(job.step.link.name, None)
            if refusals[0] is None:  # made but not marked: nobody would ever take it away
                dialogue.tell([requests.deletion(job.step.link.index)])
        if result.refusal is None:
            result.refusal = as_failure(refusal, job.step.command, job.step.device)


def _free_indexes(dialogue: Dialogue, count: int) -> list[int]:
    """Asked for, not trusted to chance: if one were taken, the mark would land on whoever has it."""
    found: list[int] = []
    while len(found) < count:
        drawn = random.sample(range(_FIRST_INDEX, _LAST_INDEX), count - len(found))
        for at in range(0, len(drawn), _MESSAGES_AT_ONCE):
            some = drawn[at : at + _MESSAGES_AT_ONCE]
            answers = dialogue.ask([requests.get(None, index) for index in some])
            found += [index for index, answer in zip(some, answers, strict=True) if not answer]
    return found
