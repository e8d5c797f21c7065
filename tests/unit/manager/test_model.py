"""The manager's pure decisions: over all combinations, not by example alone."""

from itertools import product
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viaduct_common.digest import holdings_digest
from viaduct_common.errors import ERRORS_BY_CODE
from viaduct_common.messages.base import ErrorBody
from viaduct_manager.model import moves
from viaduct_manager.model.moves import Move, Standing, next_move
from viaduct_manager.model.retries import FIRST_SECONDS, LONGEST_SECONDS, TRANSIENT_CODES, retry_after_seconds
from viaduct_manager.model.sync import DONE, MOVING, PATIENCE_BEATS, Wanted, expected_digest, needs_sync, settled

PHASES = {
    moves.ATTACH: ["preflight", "realize", "rollback"],
    moves.DETACH: ["preflight", "release", "rollback"],
    moves.CHECK: ["check"],
    moves.PLAN: ["check"],
    moves.DELETE_HOST: ["release"],
    moves.MOVE_HOST: ["realize"],
    moves.CHANGE_VLAN: ["preflight", "realize", "rollback"],
    moves.CHANGE_MTU: ["preflight", "realize", "rollback"],
    moves.ORPHANS: ["check"],
    moves.SWEEP: ["check"],
}
STANDINGS = [
    Standing(type_, phase, on_failure, pending, failed)
    for type_, phases in PHASES.items()
    for phase, on_failure, pending, failed in product(phases, ("rollback", "keep"), (0, 1, 5), (0, 1, 3))
]
NEXT_PHASE = {Move.REALIZE: "realize", Move.RELEASE: "release", Move.ROLL_BACK: "rollback"}


@pytest.mark.parametrize("at", STANDINGS, ids=str)
def test_operation_waits_while_anybody_is_asked_and_only_then(at: Standing) -> None:
    """No step is left behind, and no phase ends in nothing."""
    assert (next_move(at) is Move.WAIT) == (at.pending > 0)


@pytest.mark.parametrize("type_", PHASES)
@pytest.mark.parametrize("on_failure", ["rollback", "keep"])
@given(failures=st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_every_operation_ends_whatever_fails(type_: str, on_failure: str, failures: list[int]) -> None:
    """Each phase comes once, in the documented order."""
    phase, seen = PHASES[type_][0], []
    for failed in failures:
        seen.append(phase)
        move = next_move(Standing(type_, phase, on_failure, 0, failed))
        if move in {Move.SUCCEED, Move.FAIL}:
            break
        phase = NEXT_PHASE[move]
    else:
        pytest.fail(f"no end after {seen}")

    assert seen == [phase for phase in PHASES[type_] if phase in seen]
    undoes_all = {moves.ATTACH, moves.DETACH} if on_failure == "rollback" else set()
    if type_ in undoes_all | moves.CHANGES | moves.OF_ONE_HOST | {moves.MOVE_HOST}:
        assert (move is Move.SUCCEED) == (not any(failures[: len(seen)]))


@pytest.mark.parametrize("type_", sorted(moves.CHANGES))
@given(failures=st.lists(st.integers(0, 3), min_size=3, max_size=3))
def test_change_that_touched_a_host_and_failed_is_undone_before_it_ends(type_: str, failures: list[int]) -> None:
    """And one that touched none just ends."""
    phase, path = "preflight", []
    while True:
        path.append(phase)
        move = next_move(Standing(type_, phase, "rollback", 0, failures[len(path) - 1]))
        if move in {Move.SUCCEED, Move.FAIL}:
            break
        phase = NEXT_PHASE[move]

    assert ("rollback" in path) == (failures[0] == 0 and failures[1] > 0)
    assert (move is Move.FAIL) == (failures[0] > 0 or failures[1] > 0)


def test_attach_that_keeps_realizes_where_it_can_and_never_rolls_back() -> None:
    """It fails all the same, and the attachment stays."""
    assert next_move(Standing(moves.ATTACH, "preflight", "keep", 0, 2)) is Move.REALIZE
    assert next_move(Standing(moves.ATTACH, "realize", "keep", 0, 2)) is Move.FAIL


def test_standing_that_cannot_be_is_refused() -> None:
    """Rather than moved somewhere."""
    with pytest.raises(ValueError, match="no move"):
        next_move(Standing(moves.CHECK, "realize", "rollback", 0, 0))


# ---- retries -----------------------------------------------------------------------------------------------------


@given(code=st.sampled_from(sorted(ERRORS_BY_CODE)), attempts=st.integers(0, 10_000), releasing=st.booleans())
def test_retries_are_spaced_within_their_bounds(code: str, attempts: int, releasing: bool) -> None:
    """Doubling from two seconds to five minutes; permanent errors never, releases always."""
    kind = ERRORS_BY_CODE[code]
    pause = retry_after_seconds(kind("x").to_body(), attempts, releasing=releasing)

    if pause is None:
        assert not releasing
        assert code not in TRANSIENT_CODES
        assert not kind.retryable
    else:
        assert FIRST_SECONDS <= pause <= LONGEST_SECONDS
        assert pause == min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(attempts, 20))
        later = retry_after_seconds(kind("x").to_body(), attempts + 1, releasing=releasing)
        assert later is not None
        assert later >= pause


@pytest.mark.parametrize("code", ["PRECONDITION_FAILED", "L2_CONFLICT", "UNSUPPORTED_TYPE", "IN_USE", "NEWER"])
def test_permanent_error_is_shown_not_repeated(code: str) -> None:
    """Unless a release is blocked by it: what blocks goes away one day."""
    error = ErrorBody(code=code, message="x")

    assert retry_after_seconds(error, 0, releasing=False) is None
    assert retry_after_seconds(error, 0, releasing=True) == FIRST_SECONDS


# ---- sync --------------------------------------------------------------------------------------------------------

rows_strategy = st.lists(
    st.builds(
        Wanted,
        uuid=st.uuids(),
        generation=st.integers(1, 100),
        desired=st.sampled_from(["present", "absent"]),
        state=st.sampled_from(["pending", "failed", *sorted(MOVING - {"pending"}), *sorted(DONE)]),
        age_seconds=st.floats(0, 100),
        observed=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda row: row.uuid,
)


@given(rows=rows_strategy, settle=st.floats(0.1, 50))
def test_host_that_holds_what_it_should_is_left_alone(rows: list[Wanted], settle: float) -> None:
    """And what was in motion for long enough is then known to be done."""
    digest = expected_digest(rows)
    proven = settled(rows, digest, settle_seconds=settle)

    assert not needs_sync(rows, digest, settle_seconds=settle, since_sync_seconds=None)
    assert {row.uuid for row in proven} == {
        row.uuid
        for row in rows
        if row.age_seconds >= settle and (row.state in MOVING or (row.state in DONE and not row.observed))
    }


@given(rows=rows_strategy, settle=st.floats(0.1, 50), since=st.none() | st.floats(0, 100))
def test_host_that_differs_is_told_once_nothing_is_in_motion(
    rows: list[Wanted], settle: float, since: float | None
) -> None:
    """Not while a young change may still arrive, nor again just after it was told; and nothing is proven."""
    digest = holdings_digest([(uuid4(), 1)])
    expected = all(row.age_seconds >= settle for row in rows) and (since is None or since >= settle)

    assert needs_sync(rows, digest, settle_seconds=settle, since_sync_seconds=since) == expected
    assert settled(rows, digest, settle_seconds=settle) == []


@given(rows=rows_strategy, settle=st.floats(0.1, 50), since=st.none() | st.floats(0, 100), beats=st.integers(0, 20))
def test_host_that_differs_for_long_is_told_whatever_is_in_motion(
    rows: list[Wanted], settle: float, since: float | None, beats: int
) -> None:
    """Or a network whose peers come and go all the time would keep it from being healed; but never twice at once."""
    told = needs_sync(
        rows, holdings_digest([(uuid4(), 1)]), settle_seconds=settle, since_sync_seconds=since, beats=beats
    )
    still = all(row.age_seconds >= settle for row in rows)

    assert told == ((still or beats >= PATIENCE_BEATS) and (since is None or since >= settle))


def test_what_failed_there_is_not_expected_there() -> None:
    """A permanent failure must not make a host differ for ever."""
    failed = Wanted(uuid4(), 1, "present", "failed", 100.0)

    assert expected_digest([failed]) == holdings_digest([])
