"""Could one address be handed out, and if not, why."""

from collections.abc import Iterable, Sequence

from viaduct_common.messages.ipam import UnavailableReason
from viaduct_ipam.model.ranges import Address, Range


def find_range(ip: Address, ranges: Iterable[Range]) -> Range | None:
    """The range that holds `ip`; there is at most one, as ranges do not overlap."""
    return next((one for one in ranges if ip in one.bounds), None)


def why_never(ip: Address, ranges: Sequence[Range]) -> UnavailableReason | None:
    """Why no range can ever hand out `ip`, or None if one can.

    An edge of a subnet or a gateway is called so also when it lies between no range's bounds, unless another range
    hands it out.
    """
    home = find_range(ip, ranges)
    if home is not None:
        return home.bounds.never(ip)
    for one in ranges:
        if one.bounds.version == ip.version and (reason := one.bounds.never(ip)):
            return reason
    return "NOT_IN_RANGE"


def why_unavailable(
    ip: Address, ranges: Sequence[Range], *, taken_as: UnavailableReason | None, is_reserved: bool
) -> UnavailableReason | None:
    """The first reason against handing out `ip` now; USED and COOLING come before RESERVED: they are the harder ones.

    Args:
        taken_as: USED, COOLING or None.
    """
    if (reason := why_never(ip, ranges)) is not None:
        return reason
    return taken_as or ("RESERVED" if is_reserved else None)
