"""What all commands have in common: how they are read, how an item of one is done, how they are answered."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar
from uuid import UUID

import structlog
from prometheus_client import Counter, Histogram

from viaduct_agent.lanes import Turn
from viaduct_common import topology
from viaduct_common.bus import Delivery, GiveBack
from viaduct_common.bus.failures import BusError
from viaduct_common.bus.intake import check_envelope
from viaduct_common.errors import DeadlineExceeded, InvalidRequest, UnsupportedType, ViaductError
from viaduct_common.messages.agent import ItemResult
from viaduct_common.messages.base import Command
from viaduct_common.messages.services.commands import ServiceResult

log = structlog.get_logger()
ITEMS = Counter("viaduct_agent_items", "Items of commands by command and outcome", ["command", "outcome"])
ITEM_SECONDS = Histogram("viaduct_agent_item_seconds", "Time of one item, its wait included", ["command"])
GIVE_BACK_PAUSE_SECONDS = 1.0  # a command that cannot be answered comes again at once: not in a tight loop

C = TypeVar("C", bound=Command)
I = TypeVar("I")  # noqa: E741 - an item
R = TypeVar("R", ItemResult, ServiceResult)
A = TypeVar("A")


def read_command(delivery: Delivery, kinds: Mapping[str, type[C]]) -> tuple[C, UUID]:
    """The command, and its id.

    Raises:
        ViaductError, ValidationError: not one of these commands; the bus dead-letters it.
    """
    check_envelope(delivery, max_body_bytes=topology.MAX_COMMAND_BYTES)
    kind = kinds.get(delivery.type)
    if kind is None:
        raise UnsupportedType(f"no command {delivery.type!r}", type=delivery.type)
    try:
        command_id = UUID(delivery.message_id or "")
    except ValueError:
        raise InvalidRequest.of_field("message_id", "the AMQP property must be a UUID") from None
    command = kind.from_json(delivery.body)
    structlog.contextvars.bind_contextvars(command=command.message_type, message_id=str(command_id))
    return command, command_id


def check_deadline(deadline: float | None) -> None:
    """Raises `DeadlineExceeded`."""
    if deadline is not None and time.monotonic() > deadline:
        raise DeadlineExceeded("the deadline passed before it was started; nothing was changed")


async def do_items(items: Sequence[I], turns: Sequence[Turn], do: Callable[[I, Turn], Awaitable[R]]) -> list[R]:
    """Items begin in their order, each once its lane is free."""
    async with asyncio.TaskGroup() as tasks:
        work = [tasks.create_task(_awaited(do(item, turn))) for item, turn in zip(items, turns, strict=True)]
    return [task.result() for task in work]


async def do_item(
    blank: R, work: Callable[[R], Awaitable[R]], turn: Turn, deadline: float | None, *, command: str, **about: str
) -> R:
    """Do one item in its lane; whatever becomes of it is its result. `about` tells the log what it is."""
    started = time.perf_counter()
    async with turn:
        try:
            check_deadline(deadline)
            result = await work(blank)
        except ViaductError as exc:
            result = blank.model_copy(update={"outcome": "failed", "error": exc.to_body()})
        except Exception:
            log.exception("item_crashed", **about)
            error = ViaductError("internal error; the agent's log has more under this message id")
            result = blank.model_copy(update={"outcome": "failed", "error": error.to_body()})
    took = time.perf_counter() - started
    ITEMS.labels(command, result.outcome).inc()
    ITEM_SECONDS.labels(command).observe(took)
    _log_item(result, took, about)
    return result.model_copy(update={"took_ms": round(took * 1000, 3)})


async def answer(send: Callable[[A], Awaitable[None]], completion: A) -> None:
    """Returning acks the command.

    Raises:
        GiveBack: the completion could not be published; doing it again changes nothing.
    """
    try:
        await send(completion)
    except BusError as exc:
        await asyncio.sleep(GIVE_BACK_PAUSE_SECONDS)
        raise GiveBack(f"the completion was not taken: {exc}") from exc


async def _awaited(work: Awaitable[R]) -> R:
    return await work


def _log_item(result: ItemResult | ServiceResult, took: float, about: Mapping[str, str]) -> None:
    level = log.warning if result.outcome == "failed" else log.info
    error = None if result.error is None else f"{result.error.code}: {result.error.message}"
    level(
        "item_" + result.outcome,
        **about,
        generation=result.generation,
        changes=len(result.changes),
        error=error,
        took_ms=round(took * 1000, 1),
    )
