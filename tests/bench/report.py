"""Results as JSON for programs that compare runs, and as a table for people."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.measure import Comparison, Spread


def write_json(folder: Path, name: str, comparisons: Sequence[Comparison], machine: dict[str, Any]) -> Path:
    """Write `<folder>/<name>.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    result = {
        "bench": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "comparisons": [
            {
                "name": one.name,
                "baseline": one.baseline_name,
                "unit": one.unit,
                "ours": asdict(one.shown(one.ours)),
                "theirs": asdict(one.shown(one.baseline)),
                "cost": asdict(one.cost),
                "targetCost": one.target,
            }
            for one in comparisons
        ],
    }
    path.write_text(json.dumps(result, indent=2) + "\n")
    return path


def print_table(console: Console, title: str, comparisons: Sequence[Comparison]) -> None:
    """A line per comparison."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("what", header_style="dim")
    table.add_column("viaduct", justify="right", header_style="dim")
    table.add_column("baseline", justify="right", header_style="dim")
    table.add_column("unit", header_style="dim")
    table.add_column("cost", justify="right", header_style="dim")
    table.add_column("", header_style="dim")
    table.add_column("target", justify="right", header_style="dim")
    table.add_column("of what", header_style="dim")
    for one in comparisons:
        ours, theirs = one.shown(one.ours), one.shown(one.baseline)
        cost = f"{one.cost.min:.2f} - {one.cost.max:.2f}"
        table.add_row(
            one.name,
            _numbers(ours),
            _numbers(theirs),
            one.unit,
            f"[bold]{one.cost.median:.2f}x[/]",
            cost,
            f"< {one.target:.2f}x" if one.target else "",
            one.baseline_name,
        )
    console.print(table)
    console.print()


def _numbers(spread: Spread) -> str:
    digits = 0 if spread.median >= 100 else 1 if spread.median >= 10 else 2
    return f"{spread.median:.{digits}f} ({spread.min:.{digits}f} - {spread.max:.{digits}f})"
