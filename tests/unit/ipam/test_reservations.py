"""Reservations as values: what may be asked for, and what one of them adds to the others."""

import ipaddress
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viaduct_common.errors import Conflict
from viaduct_common.messages.ipam import CreateReservation
from viaduct_ipam.model.reservations import Reservation, check_holder, reserved_by_one_alone

L3 = uuid4()
BASES = {4: ipaddress.ip_address("10.0.0.0"), 6: ipaddress.ip_address("::a00:0")}  # the same number
spans = st.tuples(st.sampled_from([4, 6]), st.integers(0, 30), st.integers(0, 10))
holders = st.tuples(st.sampled_from([None, "vm-1", "vm-2"]), st.sampled_from([None, "52:54:00:00:00:01"]))


def reservation(version: int, first: int, size: int, holder: tuple[Any, Any] = (None, None)) -> Reservation:
    base = BASES[version]
    return Reservation(uuid4(), L3, base + first, base + first + size, None, datetime.now(UTC), *holder)


@given(spans, st.lists(spans, max_size=6))
def test_what_one_adds_is_in_no_other(one: tuple[int, int, int], others: list[tuple[int, int, int]]) -> None:
    """Address by address; the parts are ascending and apart from each other."""
    version, first, size = one
    base = BASES[version]
    taken = {number for kind, low, more in others if kind == version for number in range(low, low + more + 1)}

    parts = reserved_by_one_alone(base + first, base + first + size, [reservation(*other) for other in others])

    numbers = [number - int(base) for low, high in parts for number in range(int(low), int(high) + 1)]
    assert numbers == [number for number in range(first, first + size + 1) if number not in taken]
    assert all(int(after[0]) > int(before[1]) + 1 for before, after in pairwise(parts))
    assert {ip.version for part in parts for ip in part} <= {version}


@given(holders, st.lists(holders, max_size=4))
def test_an_address_has_one_holder(asked: tuple[Any, Any], there: list[tuple[Any, Any]]) -> None:
    """The same owner and the same MAC, or nobody; the first in the way is named."""
    over = [reservation(4, 5, 0, holder) for holder in there]
    request = CreateReservation(
        l3_network_uuid=L3, start_ip=over[0].first if over else BASES[4], end_ip=BASES[4], owner=asked[0], mac=asked[1]
    )
    nobody = (None, None)
    in_the_way = [one for one, holder in zip(over, there, strict=True) if nobody != holder != asked != nobody]

    if in_the_way:
        with pytest.raises(Conflict) as refused:
            check_holder(request, over)
        assert refused.value.details == {"reservationUuid": str(in_the_way[0].uuid)}
    else:
        check_holder(request, over)
