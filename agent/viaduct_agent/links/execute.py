"""Apply plans, undo each that fails, then look again: only an empty plan is success."""

from collections.abc import Callable, Sequence

import structlog

from viaduct_agent.links.kernel import Kernel
from viaduct_agent.links.model import Step, inverse
from viaduct_agent.links.table import LinkTable
from viaduct_common.errors import BackendFailed
from viaduct_common.messages.l2 import Difference

log = structlog.get_logger(__name__)


async def execute(kernel: Kernel, plans: Sequence[tuple[Step, ...]], actual: LinkTable) -> list[BackendFailed | None]:
    """Apply plans that were made from `actual`, one after the other; of each all steps, or none.

    Returns why each failed (the host is, as far as that plan goes, as it was before), None for those done.
    """
    indexes = actual.indexes()
    outcomes = await kernel.apply(plans, indexes)
    for outcome in outcomes:
        if outcome.refusal is not None:
            await undo(kernel, [step for done in reversed(outcome.done) for step in inverse(done)], indexes)
    return [outcome.refusal for outcome in outcomes]


def left_over(steps: tuple[Step, ...], found: Callable[[], list[Difference]]) -> BackendFailed | None:
    """The error, with the differences, of a host that needs `steps` still after all was done."""
    if not steps:
        return None
    text = f"the host is not as it should be after all steps: {steps[0].command} is left"
    differences = [difference.model_dump(mode="json", by_alias=True) for difference in found()]
    return BackendFailed(text, step="verify", steps=[step.command for step in steps], differences=differences)


async def undo(kernel: Kernel, steps: Sequence[Step], indexes: dict[str, int]) -> None:
    """Each step by itself: what is already gone with its parent, or by another hand, stops no other."""
    for step, undone in zip(steps, await kernel.apply([[step] for step in steps], indexes), strict=True):
        if undone.refusal is not None:
            log.warning("undo_failed", step=step.command, error=undone.refusal.message)
