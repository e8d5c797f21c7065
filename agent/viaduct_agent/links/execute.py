"""Apply a plan, undo what was done if a step fails, then look again: only an empty plan is success."""

from collections.abc import Callable
from contextlib import AsyncExitStack

import structlog

from viaduct_agent.links.kernel import Kernel
from viaduct_agent.links.model import Links, Step, inverse
from viaduct_common.errors import BackendFailed
from viaduct_common.messages.l2 import Difference

log = structlog.get_logger(__name__)


async def execute(kernel: Kernel, steps: tuple[Step, ...], actual: Links) -> None:
    """Apply `steps`, which were planned from `actual`; all of them, or none.

    Raises:
        BackendFailed: the kernel refused a step; the host is as it was before.
    """
    indexes = {name: link.index for name, link in actual.items()}
    async with AsyncExitStack() as undo:
        for step in steps:
            done = await kernel.apply(step, indexes)
            undo.push_async_callback(_undo, kernel, done, indexes)
        undo.pop_all()  # all done: keep it


def verify(planned_again: Callable[[], tuple[Step, ...]], found: Callable[[], list[Difference]]) -> None:
    """Raise `BackendFailed` with the differences unless what is observed now needs no step."""
    left = planned_again()
    if left:
        text = f"the host is not as it should be after all steps: {left[0].command} is left"
        differences = [difference.model_dump(mode="json", by_alias=True) for difference in found()]
        raise BackendFailed(text, step="verify", steps=[step.command for step in left], differences=differences)


async def _undo(kernel: Kernel, done: Step, indexes: dict[str, int]) -> None:
    step = inverse(done)
    try:
        await kernel.apply(step, indexes)
    except BackendFailed as exc:  # already gone with its parent, or by another hand: the rest must be undone still
        log.warning("undo_failed", step=step.command, error=exc.message)
