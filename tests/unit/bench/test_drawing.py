"""Drawings for documents that are read on white and on black."""

from pathlib import Path

from bench.drawing import DARK, OURS, Line, Panel, draw


def _draw(path: Path) -> str:
    line = Line("ours", OURS, [1.0, 2.0], [0.5, 1.5], [1.5, 2.5])
    draw(path, "a title", "size of it, MiB", ["/24", "/64"], [Panel("per second", [line])])
    return path.read_text()


def test_every_colour_of_a_drawing_has_one_for_black(tmp_path: Path) -> None:
    """The rule for dark readers stands before all that it changes."""
    svg = _draw(tmp_path / "a.svg")

    rules, _, drawing = svg.partition("</style>")
    assert f'[style*="stroke: {OURS}"] {{ stroke: {DARK[OURS]} !important; }}' in rules
    assert f"stroke: {OURS}" in drawing


def test_the_same_numbers_make_the_same_file(tmp_path: Path) -> None:
    """So that a commit shows whether anything was measured anew."""
    assert _draw(tmp_path / "a.svg") == _draw(tmp_path / "b.svg")


def test_words_stay_words(tmp_path: Path) -> None:
    """Whoever searches the document finds axes and units."""
    svg = _draw(tmp_path / "a.svg")

    assert all(text in svg for text in ("a title", "size of it, MiB", "per second", "/64"))
