"""`flat`: distributed services of one L3 network on one host, for the NICs of that host."""

from dataclasses import replace
from typing import ClassVar
from uuid import UUID

from viaduct_agent.links.marks import format_service_mark
from viaduct_agent.services import flat_rules, routing, translation
from viaduct_agent.services.api import ServiceOnHost
from viaduct_agent.services.backend import SpaceBackend, parsed
from viaduct_agent.services.dnsmasq.config import served_by
from viaduct_agent.services.dnsmasq.serve import PROGRAM, Dnsmasq
from viaduct_agent.services.layout import Layout
from viaduct_agent.services.router import SYSCTLS, tcp_ports, udp_ports
from viaduct_agent.services.space import INSIDE, Space, WantedLeg, wanted_leg
from viaduct_common.errors import InvalidRequest
from viaduct_common.messages.fields import IpAddress
from viaduct_common.messages.services.specs import FLAT, FlatSpec, Leg
from viaduct_common.naming import nic_device_name

PREFIX = "vf-"


class FlatBackend(SpaceBackend):
    """DHCP, DNS and EIPs without a router: each host serves its own NICs, from the same address on every host."""

    kind: ClassVar[str] = FLAT
    prefix: ClassVar[str] = PREFIX
    program: ClassVar[str] = PROGRAM

    def layout(self, want: ServiceOnHost) -> Layout:
        return flat_layout(want, parsed(FlatSpec, want))

    def host_table(self, uuid: UUID) -> str | None:
        return table_name(uuid)


def table_name(service: UUID) -> str:
    return f"viaduct_flat_{service.hex}"


def flat_layout(want: ServiceOnHost, spec: FlatSpec) -> Layout:
    """All that the services are on this host.

    Raises:
        InvalidRequest: the network's bridge is one that nftables does not see, or an EIP is not on its leg.
    """
    if spec.inside.port.virtual_port is not None:
        raise InvalidRequest.of_field(
            "inside.port.virtualPort", "distributed services need a bridge of the kernel's own"
        )
    eips = [eip.rule for eip in spec.eips]
    for eip in spec.eips:
        routing.leg_with(eip.rule.public_ip, [eip.outside], "eips")
    gateways = _gateways(spec) if eips else ()
    inside = wanted_leg(want.uuid, spec.inside, INSIDE)
    inside = replace(inside, addresses=inside.addresses | {f"{ip}/{ip.max_prefixlen}" for ip in gateways})
    outside = [(leg, wanted_leg(want.uuid, leg, prefix_routes=False)) for leg in _outside(spec)]
    served = served_by(spec, INSIDE, last_resort=any(rule.public_ip.version == 6 for rule in eips))
    rules = [
        rule
        for rule in routing.rules(inside, [leg for leg, _ in outside], eips, marked=False)
        if rule.target not in {f"{ip}/{ip.max_prefixlen}" for ip in gateways}
    ]
    return Layout(
        space=Space(
            uuid=want.uuid,
            name=f"{PREFIX}{want.uuid}",
            mark=format_service_mark(want.uuid, want.generation),
            legs=(inside, *(wanted for _, wanted in outside)),
            routes=frozenset(route for leg, wanted in outside for route in routing.leg_routes(leg, wanted.inner)),
            rules=frozenset(rules),
            sysctls=SYSCTLS,
        ),
        rules=translation.table(
            translation.Rules(
                inside=tuple(sorted({own.network for own in spec.inside.addresses}, key=str)),
                eips=tuple(eips),
                udp_ports=udp_ports(spec.dhcp, spec.dns),
                tcp_ports=tcp_ports(spec.dns),
            )
        ),
        host_rules=flat_rules.table(_kept(want.uuid, spec, inside, gateways)),
        serving=None if served is None else Dnsmasq(served),
        translations=translation.translations(eips, (), ()),
    )


def _kept(service: UUID, spec: FlatSpec, inside: WantedLeg, gateways: tuple[IpAddress, ...]) -> flat_rules.Kept:
    translated: dict[str, tuple[IpAddress, ...]] = {}
    for eip in spec.eips:
        tap = nic_device_name(eip.nic_uuid)
        translated[tap] = (*translated.get(tap, ()), eip.rule.private_ip)
    return flat_rules.Kept(
        name=table_name(service),
        leg=inside.outer,
        mac=inside.mac,
        networks=tuple(sorted({own.network for own in spec.inside.addresses}, key=str)),
        servers=tuple(own.ip for own in spec.inside.addresses),
        taps=tuple(sorted({nic_device_name(nic.nic_uuid) for nic in spec.nics} | set(translated))),
        translated=translated,
        gateways=gateways,
        dhcp=spec.dhcp is not None,
    )


def _outside(spec: FlatSpec) -> list[Leg]:
    """One for each MAC, with the addresses of all EIPs that have it."""
    legs: dict[str, Leg] = {}
    for leg in (eip.outside for eip in spec.eips):
        known = legs.get(leg.mac, leg)
        addresses = list(dict.fromkeys([*known.addresses, *leg.addresses]))
        gateways = list(dict.fromkeys([*known.gateways, *leg.gateways]))
        legs[leg.mac] = known.model_copy(update={"addresses": addresses, "gateways": gateways})
    return list(legs.values())


def _gateways(spec: FlatSpec) -> tuple[IpAddress, ...]:
    """Where NICs send what leaves their network; our own addresses are no others."""
    own = {address.ip for address in spec.inside.addresses}
    routers = {*spec.inside.gateways, *(spec.dhcp.routers if spec.dhcp else ())}
    return tuple(sorted(routers - own, key=str))
