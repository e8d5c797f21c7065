"""`virtualRouter`: a router of one L3 network, in a network namespace of its host."""

from typing import ClassVar

from viaduct_agent.links.marks import format_service_mark
from viaduct_agent.services import routing, translation
from viaduct_agent.services.api import ServiceOnHost
from viaduct_agent.services.backend import SpaceBackend, parsed
from viaduct_agent.services.dnsmasq.config import served_by
from viaduct_agent.services.dnsmasq.serve import PROGRAM, Dnsmasq
from viaduct_agent.services.layout import Layout
from viaduct_agent.services.space import INSIDE, Space, wanted_leg
from viaduct_common.messages.services.specs import VIRTUAL_ROUTER, DhcpSpec, DnsSpec, RouterSpec

PREFIX = "vr-"
# Of the namespace alone. Addresses are used at once: IPAM keeps them apart, not duplicate address detection.
SYSCTLS = (
    ("net.ipv4.ip_forward", "1"),
    ("net.ipv6.conf.all.forwarding", "1"),
    ("net.ipv6.conf.default.accept_dad", "0"),
    ("net.ipv6.conf.default.accept_ra", "0"),
    ("net.ipv4.conf.all.arp_ignore", "1"),  # a leg answers for its own addresses only
    ("net.ipv4.conf.all.arp_announce", "2"),
    ("net.ipv4.conf.all.promote_secondaries", "1"),
    ("net.ipv4.conf.all.rp_filter", "0"),
    ("net.ipv4.conf.default.rp_filter", "0"),
    ("net.ipv4.conf.all.send_redirects", "0"),
    ("net.ipv4.conf.default.send_redirects", "0"),
)
_DHCP_PORTS, _DNS_PORT = (67, 547), 53


class VirtualRouterBackend(SpaceBackend):
    """DHCP, DNS, SNAT, EIPs and forwarded ports, each if the spec has it."""

    kind: ClassVar[str] = VIRTUAL_ROUTER
    prefix: ClassVar[str] = PREFIX
    program: ClassVar[str] = PROGRAM

    def layout(self, want: ServiceOnHost) -> Layout:
        return router_layout(want, parsed(RouterSpec, want))


def router_layout(want: ServiceOnHost, spec: RouterSpec) -> Layout:
    """All that the router is.

    Raises:
        InvalidRequest: a public address is on none of its legs.
    """
    inside = wanted_leg(want.uuid, spec.inside, INSIDE)
    outside = [(leg, wanted_leg(want.uuid, leg, prefix_routes=False)) for leg in spec.outside]
    legs = [leg for leg, _ in outside]
    for public in [*spec.snat, *(rule.public_ip for rule in spec.port_forwardings)]:
        routing.leg_with(public, legs, "outside")
    marked = len(legs) > 1
    devices = [(leg, wanted.inner) for leg, wanted in outside]
    routes = [route for leg, device in devices for route in routing.leg_routes(leg, device)]
    routes += routing.main_routes(devices, spec.snat)
    space = Space(
        uuid=want.uuid,
        name=f"{PREFIX}{want.uuid}",
        mark=format_service_mark(want.uuid, want.generation),
        legs=(inside, *(wanted for _, wanted in outside)),
        routes=frozenset(routes),
        rules=frozenset(routing.rules(inside, legs, spec.eips, marked=marked)),
        sysctls=SYSCTLS,
    )
    rules = translation.Rules(
        inside=tuple(sorted({own.network for own in spec.inside.addresses}, key=str)),
        eips=tuple(spec.eips),
        forwardings=tuple(spec.port_forwardings),
        snat=tuple(spec.snat),
        marks={wanted.inner: routing.table_of(leg.mac) for leg, wanted in outside} if marked else None,
        udp_ports=udp_ports(spec.dhcp, spec.dns),
        tcp_ports=tcp_ports(spec.dns),
    )
    served = served_by(spec, INSIDE)
    return Layout(
        space=space,
        rules=translation.table(rules),
        serving=None if served is None else Dnsmasq(served),
        translations=translation.translations(spec.eips, spec.port_forwardings, spec.snat),
    )


def udp_ports(dhcp: DhcpSpec | None, dns: DnsSpec | None) -> tuple[int, ...]:
    return (*(_DHCP_PORTS if dhcp else ()), *((_DNS_PORT,) if dns else ()))


def tcp_ports(dns: DnsSpec | None) -> tuple[int, ...]:
    return (_DNS_PORT,) if dns else ()
