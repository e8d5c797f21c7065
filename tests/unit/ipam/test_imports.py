"""Rows of an import by themselves."""

import json
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viaduct_ipam.model.imports import MOST_SHOWN, StagedRow, digest_of, read_row

L3 = str(uuid4())
RANGE = {"kind": "range", "l3NetworkUuid": L3, "startIp": "10.0.0.1", "endIp": "10.0.0.9", "prefixLength": 24}
RESERVATION = {"kind": "reservation", "l3NetworkUuid": L3, "startIp": "10.0.0.1", "endIp": "10.0.0.1"}
ALLOCATION = {"kind": "allocation", "l3NetworkUuid": L3, "ip": "fd00::1"}

names = st.text(max_size=MOST_SHOWN).filter(str.isprintable)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@pytest.mark.parametrize(
    ("row", "others"),
    [
        (RANGE, {"prefixLength": "24", "gateway": "10.0.0.254", "name": "a", "type": "addressPool"}),
        (RANGE, {"startIp": "fd00::1", "endIp": "fd00::9", "prefixLength": 64, "addressMode": "stateful"}),
        (RESERVATION, {"reason": "", "owner": "vm-1", "mac": "52-54-00-00-00-01"}),
        (ALLOCATION, {"owner": None, "allocatedAt": "2026-01-31T12:00:00+01:00", "expiresAt": "2027-01-01T00:00:00Z"}),
        (ALLOCATION, {"allocatedAt": "2026-01-31 12:00:00Z", "uuid": str(uuid4())}),
    ],
)
def test_right_rows_are_read(row: dict[str, Any], others: dict[str, Any]) -> None:
    """With values of JSON, or with text as CSV has it; null is an empty cell."""
    assert isinstance(read_row(1, {**row, **others}), StagedRow)


@pytest.mark.parametrize(
    ("row", "others", "problem"),
    [
        (RANGE, {"endIp": None}, "endIp: is missing"),
        (RANGE, {"startIp": "10.0.0"}, 'startIp: "10.0.0" is no IP address'),
        (RANGE, {"ip": "10.0.0.1"}, "ip: a line of kind range has no such column"),
        (RANGE, {"endIp": "10.0.1.1"}, "endIp: outside 10.0.0.0/24, the subnet of startIp"),
        (RANGE, {"addressMode": "slaac"}, "addressMode: only IPv6 has address modes"),
        (RESERVATION, {"endIp": "10.0.0.0"}, "endIp: must not be below startIp"),
        (ALLOCATION, {"allocatedAt": "1767225600"},
         "allocatedAt: a date and time with its zone is wanted, such as 2026-01-31T12:00:00Z"),
        (ALLOCATION, {"allocatedAt": "2026-01-31T12:00:00Z", "expiresAt": "2026-01-31T12:00:00Z"},
         "expiresAt: must be after allocatedAt"),
        (ALLOCATION, {"kind": "IP"}, 'kind: "IP" is none: range, reservation or allocation is wanted'),
    ],
)  # fmt: skip
def test_wrong_rows_say_what_is_wrong_in_which_column(
    row: dict[str, Any], others: dict[str, Any], problem: str
) -> None:
    """In the words of the requests, and with the same code."""
    problems = read_row(7, {**row, **others})

    assert isinstance(problems, list)
    assert [(one.line, one.code, f"{one.field}: {one.message}") for one in problems] == [
        (7, "INVALID_REQUEST", problem)
    ]


@given(
    row=st.sampled_from([RANGE, RESERVATION, ALLOCATION]),
    others=st.dictionaries(st.sampled_from([*RANGE, *RESERVATION, *ALLOCATION, "x"]) | names, anything),
)
def test_no_row_breaks_the_reader(row: dict[str, Any], others: dict[str, Any]) -> None:
    """It is read, or it has problems that can be stored and shown, each column once."""
    read = read_row(1, {**row, **others})

    if not isinstance(read, StagedRow):
        assert read
        assert len({one.field for one in read}) == len(read)
        for one in read:
            assert one.field is not None
            assert one.field.isprintable()
            assert one.message.isprintable()
            assert len(one.field) <= MOST_SHOWN + 3


@given(one=st.dictionaries(st.text(), anything), other=st.dictionaries(st.text(), anything))
def test_digest_tells_rows_apart(one: dict[str, Any], other: dict[str, Any]) -> None:
    """The order of the columns does not matter."""
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)

    assert (digest_of(one) == digest_of(other)) == same
    assert digest_of(dict(reversed(one.items()))) == digest_of(one)
