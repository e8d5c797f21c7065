"""When to say that an L3 network fills up: at 80, 95 and 100 %, and once it has fallen well below again."""

LEVELS = (80, 95, 100)
# In percent; so a network that goes up and down around a level is told of once.
HYSTERESIS = 5


def fill_level(taken: int, total: int, before: int) -> int:
    """The level that is reached now, in percent, or 0.

    Args:
        taken, total: addresses in use or cooling, and those that could be given out in all.
        before: the level as it was announced last.
    """
    reached = max((level for level in LEVELS if total and taken * 100 >= level * total), default=0)
    if reached >= before:
        return reached
    still = total and taken * 100 > (before - HYSTERESIS) * total
    return before if still else reached
