"""What the options of an L3 network must be for VMs to be told of them."""

from collections.abc import Sequence

from viaduct_common.errors import InvalidRequest
from viaduct_common.messages.fields import IpAddress
from viaduct_common.messages.l3 import L3HostRoute


def check_mtu(mtu: int | None, l2_mtu: int) -> None:
    """Raises:
    InvalidRequest: the L2 network does not carry so much.
    """
    if mtu is not None and mtu > l2_mtu:
        raise InvalidRequest.of_field("mtu", f"at most that of the L2 network, {l2_mtu}", l2Mtu=l2_mtu)


def check_dns(servers: Sequence[IpAddress] | None) -> None:
    """Raises:
    InvalidRequest: a server is named twice.
    """
    for index, server in enumerate(servers or ()):
        if server in (servers or ())[:index]:
            raise InvalidRequest.of_field(f"dns.{index}", f"{server} is there already")


def check_host_routes(routes: Sequence[L3HostRoute] | None) -> None:
    """Raises:
    InvalidRequest: two routes for one prefix, or one whose next hop is of another IP version.
    """
    seen = set()
    for index, route in enumerate(routes or ()):
        if route.prefix.version != route.next_hop.version:
            raise InvalidRequest.of_field(
                f"hostRoutes.{index}.nextHop", f"of another IP version than the prefix {route.prefix}"
            )
        if route.prefix in seen:
            raise InvalidRequest.of_field(f"hostRoutes.{index}.prefix", f"there is a route for {route.prefix} already")
        seen.add(route.prefix)
