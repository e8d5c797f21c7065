"""How often the collector of cyclic garbage looks at what this process keeps."""

import gc

# A check of a thousand networks has some ten thousand objects alive at once, and none of them at its end. The default
# of 700 takes each such moment for growth, and every few checks looks at all that the process has: 70 ms, in which
# nothing else is done. Cycles are few here; at most so many more objects wait for the next look.
_OBJECTS = 20_000


def collect_rarely() -> None:
    gc.set_threshold(_OBJECTS, 10, 10)
