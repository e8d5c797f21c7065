"""How full ranges are, in exact integers: an IPv6 /64 has more addresses than 2^63."""

from collections.abc import Iterable
from dataclasses import dataclass

from viaduct_common.messages.ipam import IpCapacity
from viaduct_ipam.model.intervals import IntervalSet
from viaduct_ipam.model.ranges import Range


@dataclass(frozen=True)
class Usage:
    """One range with its counters, and what is reserved of its IP version in its L3 network."""

    range: Range
    reserved: IntervalSet


def capacity_of(usages: Iterable[Usage]) -> IpCapacity:
    """The sum. An address is counted once: as used, else as cooling, else as reserved, else as available.

    It costs as much as there are ranges and reservations, however many addresses they have or are in use.
    """
    total = used = cooling = reserved = 0
    for usage in usages:
        assignable = usage.range.bounds.assignable
        total += assignable.size
        used += usage.range.used_count
        cooling += usage.range.cooling_count
        reserved += assignable.intersection(usage.reserved).size - usage.range.taken_reserved_count
    available = total - used - cooling - reserved
    return IpCapacity(total=total, used=used, cooling=cooling, reserved=reserved, available=available)
