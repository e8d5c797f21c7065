"""How full ranges are, in exact integers: an IPv6 /64 has more addresses than 2^63."""

from collections.abc import Iterable
from dataclasses import dataclass

from viaduct_common.messages.ipam import IpCapacity
from viaduct_ipam.model.intervals import IntervalSet
from viaduct_ipam.model.ranges import Range


@dataclass(frozen=True)
class Usage:
    """One range, what is reserved in its L3 network, and how many of its used addresses are reserved as well."""

    range: Range
    reserved: IntervalSet
    used_and_reserved: int


def capacity_of(usages: Iterable[Usage]) -> IpCapacity:
    """The sum. A used address counts as used, also when it is reserved; so the three parts add up to the total."""
    total = used = reserved = 0
    for usage in usages:
        assignable = usage.range.bounds.assignable
        total += assignable.size
        used += usage.range.used_count
        reserved += assignable.intersection(usage.reserved).size - usage.used_and_reserved
    return IpCapacity(total=total, used=used, reserved=reserved, available=total - used - reserved)
