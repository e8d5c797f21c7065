"""What the demo prints, and that it claims nothing that does not hold."""

from io import StringIO

import pytest

from demo.narrator import FactFailed, Narrator, duration


class Terminal(StringIO):
    """A terminal, as far as colours are concerned."""

    def isatty(self) -> bool:
        return True


def test_a_fact_that_does_not_hold_ends_the_scene() -> None:
    """It is shown with its evidence, and the summary says where it failed."""
    out = StringIO()
    narrator = Narrator(out)

    def play() -> None:
        with narrator.scene("Water"):
            narrator.fact("it is wet", True)
            narrator.fact("it burns", False, "no flame\nno smoke")

    with pytest.raises(FactFailed):
        play()
    narrator.summary(1.0)

    lines = out.getvalue().splitlines()
    assert "  ✓ it is wet" in lines
    assert lines[lines.index("  ✗ it burns") + 1 :][:2] == ["    │ no flame", "    │ no smoke"]
    assert lines[-1] == "Not all held, after 1.0 s."


def test_only_a_whole_demo_is_called_good() -> None:
    """All facts of all scenes."""
    out = StringIO()
    narrator = Narrator(out)

    with narrator.scene("Fire"):
        narrator.fact("it burns", True)
    narrator.summary(0.5)

    assert out.getvalue().splitlines()[-1] == "All 1 facts held, in 500 ms."


@pytest.mark.parametrize(
    ("terminal", "no_color", "coloured"), [(True, "", True), (True, "1", False), (False, "", False)]
)
def test_colours_are_for_terminals_that_want_them(
    terminal: bool, no_color: str, coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """https://no-color.org: set and not empty, whatever the value."""
    monkeypatch.setenv("NO_COLOR", no_color)
    out = Terminal() if terminal else StringIO()

    with Narrator(out).scene("Ink"):
        pass

    assert ("\033[" in out.getvalue()) == coloured


def test_an_audience_that_has_left_does_not_stop_the_show() -> None:
    """A closed pipe: the stack must be taken down all the same."""

    class Closed(StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    narrator = Narrator(Closed())

    with narrator.scene("Echo"):
        narrator.fact("somebody listens", True)
    assert narrator.facts == 1


def test_durations() -> None:
    """As people read them."""
    assert [duration(value) for value in (0.0421, 3.14, 150.4)] == ["42 ms", "3.1 s", "150 s"]
