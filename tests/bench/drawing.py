"""Curves as SVG, for documents that are read on white and on black."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# The text stays text, and a file that is drawn again from the same numbers is the same.
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "viaduct",
    "font.family": "sans-serif",
    "font.size": 10,
}
INCHES = (9.2, 4.2)
OURS, BASELINE, TAIL = "#2f5f9e", "#bc6c25", "#2e7d4f"
INK, GRID = "#57606a", "#d0d7de"
# What each colour becomes on black; the same as in the other drawings of docs/images.
DARK = {OURS: "#6ea0df", BASELINE: "#d99a5b", TAIL: "#5cb37f", INK: "#8b949e", GRID: "#30363d"}


@dataclass(frozen=True)
class Line:
    """One value per position; each the median of some rounds, with the least and the most as a band."""

    name: str
    color: str
    values: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    dashed: bool = False
    faint: bool = False


@dataclass(frozen=True)
class Panel:
    """Lines over the same positions."""

    label: str  # of the vertical axis, with its unit
    lines: list[Line] = field(default_factory=list)
    is_log: bool = False


def draw(path: Path, title: str, label: str, positions: Sequence[str], panels: Sequence[Panel]) -> None:
    """Write one drawing: panels side by side, all with the same positions, evenly spaced."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=INCHES, layout="constrained")
        figure.suptitle(title, color=INK, fontsize=11)
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            _draw_panel(axes, panel, positions)
            axes.set_xlabel(label, color=INK)
        text = StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Title": title})
    path.write_text(_for_black_too(text.getvalue()))


def _draw_panel(axes: Axes, panel: Panel, positions: Sequence[str]) -> None:
    places = range(len(positions))
    for line in panel.lines:
        if not line.faint:
            axes.fill_between(places, line.low, line.high, color=line.color, alpha=0.15, linewidth=0)
        style = "--" if line.dashed else "-"
        marker, width = ("^", 0.9) if line.faint else ("o", 1.7)
        axes.plot(
            places, line.values, style, color=line.color, label=line.name, marker=marker, markersize=4, linewidth=width
        )
    axes.set_xticks(list(places), list(positions))
    axes.set_ylabel(panel.label, color=INK)
    if panel.is_log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(bottom=0)
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(INK)
    axes.legend(frameon=False, labelcolor=INK, fontsize=9, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))


def _for_black_too(svg: str) -> str:
    """Let each colour be a rule that a dark reader changes; matplotlib writes them as `fill: #rrggbb`."""
    rules = "".join(
        f'[style*="{kind}: {light}"] {{ {kind}: {dark} !important; }}\n'
        for light, dark in DARK.items()
        for kind in ("fill", "stroke")
    )
    style = f"<style>@media (prefers-color-scheme: dark) {{\n{rules}}}</style>"
    return re.sub(r"(<defs>\s*<style)", lambda match: f"{style}\n {match[1]}", svg, count=1)
