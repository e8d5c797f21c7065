"""Each key once, at its earliest time, in the order of time."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from viaduct_agent.agenda import Agenda

KEYS = st.sampled_from([UUID(int=number) for number in range(4)])
TIMES = st.integers(0, 9)


@given(st.lists(st.tuples(KEYS, TIMES) | st.tuples(TIMES, st.integers(0, 3))))
def test_it_agrees_with_a_plain_dictionary(actions: list[tuple[UUID, int] | tuple[int, int]]) -> None:
    """Puts and takes in any order."""
    agenda = Agenda()
    model: dict[UUID, int] = {}
    for first, second in actions:
        if isinstance(first, UUID):
            agenda.put(first, second)
            model[first] = min(second, model.get(first, second))
        else:
            taken = agenda.take(first, second)
            times = [model.pop(key) for key in taken]
            due = [at for at in model.values() if at <= first]
            assert times == sorted(times)
            assert all(at <= first for at in times)
            assert len(taken) == second or not due
            assert not times or not due or max(times) <= min(due)
        assert agenda.next_at() == min(model.values(), default=None)
        assert len(agenda) == len(model)
