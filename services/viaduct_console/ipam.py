"""`viaduct ipam`: rows of IPAM from files and to files."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, TextIO
from uuid import UUID

from cyclopts import App, Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from viaduct_console import tables
from viaduct_console.connect import connected
from viaduct_console.exporting import export_rows
from viaduct_console.importing import import_rows
from viaduct_console.options import HERE, Broker, Output, print_json
from viaduct_console.rowfile import BadFile, Format, RowWriter, format_of, read_rows

STANDARD = "-"

FormatOption = Annotated[
    Format | None,
    Parameter(
        name=["--format", "-f"],
        help="`csv`, `jsonl` (an object on each line) or `json` (one array); else the name of the file tells.",
        show_choices=False,
    ),
]


def build_ipam_app(console: Console, notes: Console) -> App:
    """Return the commands; results go to `console`, progress to `notes` if that is a terminal."""
    app = App(name="ipam", help="Bring ranges, reservations and allocations in from a file, or out to one.")

    @app.command(name="import")
    async def import_(
        file: Annotated[str, Parameter(name="FILE", help="CSV or JSON; `-` is standard input.")],
        /,
        *,
        dry_run: Annotated[bool, Parameter(negative="", help="Only say what is wrong; nothing is changed.")] = False,
        format_: FormatOption = None,
        show: Annotated[int, Parameter(help="So many problems are shown, the first by line.")] = 100,
        patience: Annotated[
            float, Parameter(help="Seconds that checking and applying may take, once all lines are read.")
        ] = 1500.0,
        output: Output = "table",
        broker: Broker = HERE,
    ) -> int:
        """Import all rows of a file, or none if any line is wrong; then the exit status is 1.

        The L3 networks must be there. docs/operations.md tells the columns. Example:
        `viaduct ipam import plan.csv --dry-run`
        """
        format_ = format_of(file, format_)
        with _reading(file) as opened, _progress(notes, _size(file)) as progress:
            async with connected(broker.url, timeout_seconds=broker.timeout) as net:
                result = await import_rows(
                    net,
                    read_rows(opened, format_),
                    dry_run=dry_run,
                    most_problems=max(show, 0),
                    patience_seconds=patience,
                    progress=progress,
                )
        if output == "json":
            print_json(console, result)
        else:
            console.print(tables.import_view(result))
        return 1 if result.problem_count else 0

    @app.command
    async def export(
        file: Annotated[str, Parameter(name="FILE", help="CSV or JSON; `-` is standard output.")] = STANDARD,
        /,
        *,
        format_: FormatOption = None,
        l3: Annotated[
            list[UUID] | None, Parameter(negative="", help="Only this L3 network; may be given several times.")
        ] = None,
        zone: Annotated[
            list[UUID] | None, Parameter(negative="", help="Only L3 networks of this zone; may be given several times.")
        ] = None,
        broker: Broker = HERE,
    ) -> None:
        """Write the ranges, reservations and allocations of all L3 networks, or of some, as `import` reads them.

        A file is complete or not there. Examples: `viaduct ipam export all.jsonl`, `viaduct ipam export -f csv | wc -l`
        """
        format_ = format_of(file, format_)
        with _writing(file, console) as opened, _progress(notes, None) as progress:
            writer = RowWriter(opened, format_)
            async with connected(broker.url, timeout_seconds=broker.timeout) as net:
                async for row in export_rows(net, l3 or (), zone or ()):
                    writer.write(row)
                    progress("writing", writer.count)
            writer.close()

    return app


@contextmanager
def _reading(name: str) -> Iterator[BinaryIO]:
    """Raises:
    BadFile: it cannot be read.
    """
    if name == STANDARD:
        yield sys.stdin.buffer
        return
    try:
        with Path(name).open("rb") as opened:
            yield opened
    except OSError as error:
        raise BadFile(f"cannot read {name}: {error.strerror}") from None


@contextmanager
def _writing(name: str, console: Console) -> Iterator[TextIO]:
    """A file gets its name when all is written.

    Raises:
        BadFile: it cannot be written.
    """
    if name == STANDARD:
        yield console.file  # type: ignore[misc]  # rich's IO[str] is a text file
        return
    unfinished = Path(f"{name}.part")
    try:
        with unfinished.open("w", encoding="utf-8", newline="") as opened:
            yield opened
        unfinished.replace(name)
    except OSError as error:
        raise BadFile(f"cannot write {error.filename or name}: {error.strerror}") from None
    finally:
        unfinished.unlink(missing_ok=True)


def _size(name: str) -> int | None:
    """In bytes, if it is a file."""
    try:
        return os.stat(name).st_size if name != STANDARD else None
    except OSError:
        return None


@contextmanager
def _progress(notes: Console, total: int | None) -> Iterator[Callable[[str, int], None]]:
    """What to tell the work that is done; shown on a terminal only."""
    columns = [SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()]
    counted = [BarColumn()] if total else [MofNCompleteColumn()]
    with Progress(*columns, *counted, console=notes, disable=not notes.is_terminal, transient=True) as shown:
        task = shown.add_task("connecting", total=total)

        def tell(what: str, position: int) -> None:
            if position < 0:  # from here on nobody knows how long it takes
                shown.update(task, description=what, total=None)
            else:
                shown.update(task, description=what, completed=position)

        yield tell
