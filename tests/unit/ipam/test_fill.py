"""When a network is said to fill up."""

from hypothesis import given
from hypothesis import strategies as st

from viaduct_ipam.model.fill import LEVELS, fill_level


def test_levels_are_reached_exactly() -> None:
    """At 80, 95 and 100 % and not one address before; an empty network has none."""
    assert [fill_level(taken, 100, 0) for taken in (0, 79, 80, 94, 95, 99, 100)] == [0, 0, 80, 80, 95, 95, 100]
    assert fill_level(0, 0, 0) == 0
    assert fill_level(2**64 - 1, 2**64, 0) == 95  # exact also where a float is not


def test_a_level_is_left_only_well_below_it() -> None:
    """So a network that goes up and down around a level is told of once."""
    assert [fill_level(taken, 100, 80) for taken in (79, 76, 75, 95)] == [80, 80, 0, 95]
    assert [fill_level(taken, 100, 95) for taken in (94, 91, 90, 50)] == [95, 95, 80, 0]
    assert [fill_level(taken, 100, 100) for taken in (99, 96, 95, 80)] == [100, 100, 95, 80]


@given(taken=st.integers(0, 1000), more=st.integers(0, 1000), before=st.sampled_from((0, *LEVELS)))
def test_what_is_said_settles(taken: int, more: int, before: int) -> None:
    """Said again of the same fill, it is the same."""
    level = fill_level(taken, taken + more, before)

    assert level in (0, *LEVELS)
    assert fill_level(taken, taken + more, level) == level
