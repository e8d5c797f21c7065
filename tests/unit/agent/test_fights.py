"""When drift becomes a storm, and when it is over."""

from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from viaduct_agent.fights import Fights

UUID = uuid4()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fights(clock: Clock) -> Fights:
    return Fights(clock=clock)


def metric(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


def test_pauses_double_up_to_a_minute_and_begin_anew_after_peace(fights: Fights, clock: Clock) -> None:
    """The first repair is done at once."""
    pauses = []
    assert fights.ready_at(UUID) <= clock.now
    for _ in range(8):
        fights.tried(UUID, repaired=True)
        pauses.append(fights.ready_at(UUID) - clock.now)
        clock.now = fights.ready_at(UUID)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    clock.now += 301
    fights.tried(UUID, repaired=True)
    assert fights.ready_at(UUID) - clock.now == 1


def test_the_third_repair_within_five_minutes_makes_a_storm_that_ends_after_five_in_peace(
    fights: Fights, clock: Clock
) -> None:
    """It is counted once, told by the health of the host, and its end is told once."""
    storms, fought_over = metric("viaduct_agent_drift_storms_total"), metric("viaduct_agent_drift_fought_over")
    seen = []
    for _ in range(4):
        fights.tried(UUID, repaired=True)
        seen.append((fights.is_storm(UUID), fights.repairs(UUID)))
        clock.now += 70
    assert seen == [(False, 1), (False, 2), (True, 3), (True, 4)]
    assert metric("viaduct_agent_drift_storms_total") == storms + 1
    assert metric("viaduct_agent_drift_fought_over") == fought_over + 1
    assert not fights.health().ok
    assert str(UUID) in fights.health().detail
    assert fights.forget_old({UUID}) == []
    clock.now += 240
    assert fights.forget_old({UUID}) == [UUID]
    assert fights.forget_old({UUID}) == []
    assert fights.health().ok
    assert (fights.is_storm(UUID), fights.repairs(UUID)) == (False, 0)
    assert metric("viaduct_agent_drift_fought_over") == fought_over


def test_what_cannot_be_repaired_is_no_fight(fights: Fights) -> None:
    """Nobody undoes what we do."""
    for _ in range(5):
        fights.tried(UUID, repaired=False)
    assert not fights.is_storm(UUID)
    assert fights.repairs(UUID) == 0


def test_slow_drift_is_no_storm(fights: Fights, clock: Clock) -> None:
    """Two repairs in five minutes, again and again."""
    for _ in range(10):
        fights.tried(UUID, repaired=True)
        clock.now += 160
    assert not fights.is_storm(UUID)


def test_a_network_that_is_not_held_any_more_is_forgotten(fights: Fights) -> None:
    """No end is told of it, and its metric goes down."""
    fought_over = metric("viaduct_agent_drift_fought_over")
    for _ in range(3):
        fights.tried(UUID, repaired=True)
    assert fights.forget_old(set()) == []
    assert fights.health().ok
    assert metric("viaduct_agent_drift_fought_over") == fought_over


def test_a_long_list_of_storms_is_cut(fights: Fights) -> None:
    """A hello has other things to tell."""
    for uuid in [uuid4() for _ in range(12)]:
        for _ in range(3):
            fights.tried(uuid, repaired=True)
    assert fights.health().detail.endswith("and 2 more")
    fights.forget_old(set())
