"""The capacity, against a count of every address."""

import ipaddress
from datetime import UTC, datetime
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from viaduct_ipam.model.capacity import Usage, capacity_of
from viaduct_ipam.model.intervals import IntervalSet
from viaduct_ipam.model.ranges import Bounds, Range

numbers = st.sets(st.integers(0, 31))


@given(used=numbers, cooling=numbers, reserved=numbers, gateway=st.none() | st.integers(1, 30))
def test_parts_add_up_to_the_total(used: set[int], cooling: set[int], reserved: set[int], gateway: int | None) -> None:
    """Used before cooling before reserved before available; what is never handed out is in none of them."""
    network = ipaddress.ip_network("10.0.0.0/27")
    base = int(network[0])
    assignable = set(range(1, 31)) - {gateway}
    used &= assignable
    cooling = (cooling & assignable) - used
    bounds = Bounds("normal", network[0], network[31], 27, None if gateway is None else network[gateway])
    one = Range(
        uuid4(), uuid4(), None, bounds, len(used), None, datetime.now(UTC), len(cooling),
        taken_reserved_count=len((used | cooling) & reserved),
    )  # fmt: skip

    capacity = capacity_of([Usage(one, IntervalSet.of((base + n, base + n) for n in reserved))])

    assert (capacity.total, capacity.used, capacity.cooling) == (len(assignable), len(used), len(cooling))
    assert capacity.reserved == len((reserved & assignable) - used - cooling)
    assert capacity.available == len(assignable - used - cooling - reserved)
    assert capacity.total == capacity.used + capacity.cooling + capacity.reserved + capacity.available
