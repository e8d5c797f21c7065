"""Rows from a file to IPAM: staged a message at a time, then applied all or none."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

from viaduct_common.client import ViaductClient
from viaduct_common.errors import InvalidRequest, ViaductError
from viaduct_common.messages.ipam import ImportAdded, ImportLine, ImportProblem, ImportResult
from viaduct_console.rowfile import FileProblem, FileRow

MOST_ROWS = 1000
# A message may have a mebibyte.
MOST_BYTES = 512 * 1024
# Messages under way: the service reads one while another waits for the database.
AT_ONCE = 4
PAGE = 1000


@dataclass
class Unreadable:
    """Lines that are no rows: how many, and the first of them."""

    most: int
    count: int = 0
    problems: list[ImportProblem] = field(default_factory=list)

    def note(self, problem: FileProblem) -> None:
        self.count += 1
        if len(self.problems) < self.most:
            self.problems.append(ImportProblem(line=problem.line, code=InvalidRequest.code, message=problem.message))


async def import_rows(
    net: ViaductClient,
    rows: Iterable[FileRow | FileProblem],
    *,
    dry_run: bool,
    most_problems: int,
    patience_seconds: float,
    progress: Callable[[str, int], None],
) -> ImportResult:
    """Import rows, or say what is wrong with them; lines that cannot be read are among the problems of the answer.

    Args:
        most_problems: so many problems are in the answer at most, by line.
        patience_seconds: for checking and applying, once all rows are there.
        progress: told what is being done, and where the file is read.

    Raises:
        ViaductError: refused as a whole; nothing was imported.
    """
    unreadable = Unreadable(most_problems)
    job = await net.import_.create()
    try:
        await _stage(net, job.uuid, _batches(rows, unreadable), lambda position: progress("reading", position))
        only_check = dry_run or unreadable.count > 0
        progress("checking" if only_check else "applying", -1)
        result = await net.import_.apply(import_uuid=job.uuid, dry_run=only_check, timeout_seconds=patience_seconds)
        problems = await _problems(net, job.uuid, result, most_problems)
    finally:
        with suppress(ViaductError):  # it is forgotten by itself after a day
            await net.import_.delete(import_uuid=job.uuid, timeout_seconds=patience_seconds)
    together = sorted([*problems, *unreadable.problems], key=lambda problem: problem.line)
    return result.model_copy(
        update={"problem_count": result.problem_count + unreadable.count, "problems": together[:most_problems]}
    )


def _batches(rows: Iterable[FileRow | FileProblem], unreadable: Unreadable) -> Iterator[tuple[list[ImportLine], int]]:
    """Rows as messages take them, and where the file is read by then."""
    batch: list[ImportLine] = []
    size = position = 0
    for row in rows:
        if isinstance(row, FileProblem):
            unreadable.note(row)
            continue
        if len(batch) == MOST_ROWS or size + row.size > MOST_BYTES:
            yield batch, position
            batch, size = [], 0
        batch.append(ImportLine(line=row.line, values=dict(row.values)))
        size += row.size
        position = row.position
    if batch:
        yield batch, position


async def _stage(
    net: ViaductClient,
    import_uuid: UUID,
    batches: Iterable[tuple[list[ImportLine], int]],
    progress: Callable[[int], None],
) -> None:
    pending: set[asyncio.Task[ImportAdded]] = set()
    try:
        for batch, position in batches:
            pending.add(asyncio.create_task(net.import_.add(import_uuid=import_uuid, rows=batch)))
            if len(pending) >= AT_ONCE:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    one.result()
            progress(position)
        await asyncio.gather(*pending)
    finally:
        for one in pending:
            one.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


async def _problems(net: ViaductClient, import_uuid: UUID, result: ImportResult, most: int) -> list[ImportProblem]:
    """The first `most`: those of the answer may do."""
    if result.problem_count <= len(result.problems) or most <= len(result.problems):
        return result.problems
    found: list[ImportProblem] = []
    after: str | None = None
    while len(found) < most:
        page = await net.import_.problems(import_uuid=import_uuid, limit=PAGE, after=after)
        found += page.items
        after = page.after
        if after is None:
            break
    return found
