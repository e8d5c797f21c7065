"""Where routers live, and what they and flat services are told."""

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.messages.services.specs import BridgePort, EipRule, PortForwardingRule
from viaduct_manager.l2_types.registry import L2Types
from viaduct_manager.model.macs import derived_mac, service_mac
from viaduct_manager.network_services.building import Ports, name_of
from viaduct_manager.network_services.facts import (
    AddressInNetwork,
    Eip,
    Forwarding,
    NicOnNetwork,
    PublicAddress,
    ServedNetwork,
    Snat,
)
from viaduct_manager.network_services.flat.spec import FlatNetwork, flat_spec
from viaduct_manager.network_services.virtual_router.gateways import Candidate, choose_gateway, place
from viaduct_manager.network_services.virtual_router.spec import Router, router_spec

HOSTS = [UUID(int=number) for number in range(1, 5)]
INSIDE, OUTSIDE, ELSEWHERE = (UUID(int=number) for number in (10, 11, 12))
L2S = [INSIDE, OUTSIDE, ELSEWHERE]
L3, PUBLIC, OTHER_PUBLIC = (UUID(int=number) for number in (20, 21, 22))


@st.composite
def candidates(draw: st.DrawFn) -> list[Candidate]:
    found = []
    for uuid in draw(st.lists(st.sampled_from(HOSTS), unique=True)):
        attached = frozenset(draw(st.sets(st.sampled_from(L2S))))
        found.append(
            Candidate(
                uuid=uuid,
                name=f"host{uuid.int}",
                zone_uuid=UUID(int=99),
                labelled=draw(st.booleans()),
                connected=draw(st.booleans()),
                leaving=draw(st.booleans()),
                capable=draw(st.booleans()),
                attached=attached,
                realized=frozenset(draw(st.sets(st.sampled_from(sorted(attached))))) if attached else frozenset(),
                routers=draw(st.integers(0, 3)),
            )
        )
    return found


needs = st.sets(st.sampled_from([OUTSIDE, ELSEWHERE]))
currents = st.none() | st.sampled_from(HOSTS)


# ---- where it lives ----------------------------------------------------------------------------------------------


@given(hosts=candidates(), current=currents, outside=needs)
def test_router_is_on_a_fit_host_or_nowhere(hosts: list[Candidate], current: UUID | None, outside: set[UUID]) -> None:
    """With the least routers of the fit ones; it stays on a host that is fit."""
    needed = {INSIDE, *outside}
    chosen = choose_gateway(hosts, current, needed)
    fit = {one.uuid: one for one in hosts if one.unfit(needed, has_it=one.uuid == current) is None}

    assert (chosen is None) == (not fit)
    if current in fit:
        assert chosen == current
    elif chosen is not None:
        assert fit[chosen].routers == min(one.routers for one in fit.values())
        assert fit[chosen].realized >= needed


@given(hosts=candidates(), current=currents, outside=needs)
def test_choice_is_stable(hosts: list[Candidate], current: UUID | None, outside: set[UUID]) -> None:
    """Once it is there it stays, in whatever order hosts are listed and however many routers come."""
    chosen = choose_gateway(hosts, current, {INSIDE, *outside})
    if chosen is not None:
        more = [replace(one, routers=9 if one.uuid == chosen else 0) for one in reversed(hosts)]
        assert choose_gateway(more, chosen, {INSIDE, *outside}) == chosen
    placed = place(hosts, current, INSIDE, outside, "the router")
    again = place(list(reversed(hosts)), placed.host_uuid, INSIDE, outside, "the router")
    assert again.host_uuid == placed.host_uuid or placed.host_uuid is None


@given(hosts=candidates(), current=currents, outside=needs)
def test_placement_is_whole_or_says_what_is_the_matter(
    hosts: list[Candidate], current: UUID | None, outside: set[UUID]
) -> None:
    """The inside is never left out; a host that is not fit at all has it only if it had it, and is only away."""
    placed = place(hosts, current, INSIDE, outside, "the router")
    there = next((one for one in hosts if one.uuid == placed.host_uuid), None)

    assert (placed.problem is None) == (choose_gateway(hosts, current, {INSIDE, *outside}) is not None)
    assert INSIDE not in placed.left_out
    assert placed.left_out <= outside
    if placed.problem is not None:
        assert set(placed.problem.details["hosts"]) == {str(one.uuid) for one in hosts}
    if there is None:
        assert placed.host_uuid is None
        assert choose_gateway(hosts, current, {INSIDE}) is None
    else:
        assert there.labelled
        assert there.capable
        assert not there.leaving
        assert there.connected or there.uuid == current
        assert outside - placed.left_out <= there.attached


@given(hosts=candidates(), outside=needs)
def test_router_leaves_a_host_that_is_away_if_another_is_fit(hosts: list[Candidate], outside: set[UUID]) -> None:
    for one in hosts:
        others = [other for other in hosts if other.uuid != one.uuid]
        spare = choose_gateway(others, None, {INSIDE, *outside})
        if spare is not None:
            gone = [replace(one, connected=False), *others]
            assert place(gone, one.uuid, INSIDE, outside, "the router").host_uuid == spare


# ---- what it is told ---------------------------------------------------------------------------------------------


def l2(uuid: UUID, mtu: int = 1500) -> L2NetworkInventory:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return L2NetworkInventory.model_validate(
        {
            "uuid": uuid,
            "name": "l2",
            "zone_uuid": UUID(int=99),
            "physical_interface": "eth0",
            "type": "L2VlanNetwork",
            "vlan": uuid.int,
            "mtu": mtu,
            "bridge_name": f"br{uuid.int}",
            "device_names": [],
            "revision": 1,
            "attached_cluster_uuids": [],
            "created_at": now,
            "updated_at": now,
        }
    )


def network(uuid: UUID, on: UUID, types: frozenset[str] = frozenset(), mtu: int | None = None) -> ServedNetwork:
    dns = (ip_address("192.0.2.53"),)
    return ServedNetwork(uuid, "l3", UUID(int=99), l2(on), mtu, dns, "example.org", (), types)


def port_of(one: L2NetworkInventory) -> BridgePort:
    return BridgePort(l2_network_uuid=one.uuid, bridge=one.bridge_name)


def public(uuid: UUID, number: int) -> PublicAddress:
    net = uuid.int
    gateway = ip_address(f"203.{net}.0.1")
    return PublicAddress(uuid, AddressInNetwork(ip_address(f"203.{net}.0.{number}"), 24, gateway))


@st.composite
def routers(draw: st.DrawFn) -> Router:
    types = frozenset(draw(st.sets(st.sampled_from(["DHCP", "DNS", "SNAT", "EIP", "PortForwarding"]), min_size=1)))
    nics = tuple(
        NicOnNetwork(
            uuid=UUID(int=100 + number),
            l3_uuid=L3,
            host_uuid=draw(st.sampled_from(HOSTS)),
            migrating_to_host_uuid=draw(st.none() | st.sampled_from(HOSTS)),
            mac=derived_mac(UUID(int=100 + number), 0),
            host_name=draw(st.none() | st.just(f"vm{number}")),
            default=draw(st.booleans()),
            ips=(AddressInNetwork(ip_address(f"10.0.0.{number + 2}"), 24, ip_address("10.0.0.1")),),
        )
        for number in range(draw(st.integers(1, 4)))
    )
    places = st.sampled_from([PUBLIC, OTHER_PUBLIC])
    snats = [Snat(L3, public(draw(places), 2))] if draw(st.booleans()) else []
    eips, forwardings = [], []
    for number, nic in enumerate(nics):
        if draw(st.booleans()):
            address = public(draw(places), 10 + number)
            rule = EipRule(eip_uuid=UUID(int=200 + number), public_ip=address.place.ip, private_ip=nic.ips[0].ip)
            eips.append(Eip(L3, nic.uuid, rule, address))
        if draw(st.booleans()):
            address = public(draw(places), 30 + number)
            ports = PortForwardingRule(
                rule_uuid=UUID(int=300 + number),
                protocol="TCP",
                public_ip=address.place.ip,
                public_start=80,
                public_end=80,
                private_ip=nic.ips[0].ip,
                private_start=80,
            )
            forwardings.append(Forwarding(L3, ports, address))
    publics = {PUBLIC: network(PUBLIC, OUTSIDE, mtu=1400), OTHER_PUBLIC: network(OTHER_PUBLIC, ELSEWHERE)}
    return Router(UUID(int=5), network(L3, INSIDE, types), nics, tuple(snats), tuple(eips), tuple(forwardings), publics)


@given(router=routers(), left_out=needs)
def test_every_public_address_is_on_a_leg_and_no_leg_has_another(router: Router, left_out: set[UUID]) -> None:
    """Of what is served, and has a network on the host."""
    spec = router_spec(router, port_of, left_out)
    on_legs = [one.ip for leg in spec.outside for one in leg.addresses]
    used = [*spec.snat, *(one.public_ip for one in spec.eips), *(one.public_ip for one in spec.port_forwardings)]

    assert sorted(map(int, on_legs)) == sorted(map(int, set(used)))
    assert len({leg.port.l2_network_uuid for leg in spec.outside} | {INSIDE}) == len(spec.outside) + 1
    assert not {leg.port.l2_network_uuid for leg in spec.outside} & left_out
    assert len({leg.mac for leg in (spec.inside, *spec.outside)}) == len(spec.outside) + 1
    assert all(len(leg.gateways) == 1 for leg in spec.outside)
    if not left_out:
        types = router.network.types
        assert len(spec.eips) == (len(router.eips) if "EIP" in types else 0)
        assert len(spec.port_forwardings) == (len(router.forwardings) if "PortForwarding" in types else 0)
        assert len(spec.snat) == (len(router.snats) if "SNAT" in types else 0)


@given(router=routers(), data=st.data())
def test_spec_is_the_same_whatever_order_things_are_read_in(router: Router, data: st.DataObject) -> None:
    """So hosts are told nothing where nothing changed."""
    shuffled = replace(
        router,
        nics=tuple(data.draw(st.permutations(router.nics))),
        eips=tuple(data.draw(st.permutations(router.eips))),
        forwardings=tuple(data.draw(st.permutations(router.forwardings))),
    )
    assert router_spec(shuffled, port_of).to_json() == router_spec(router, port_of).to_json()


@given(router=routers())
def test_vms_ask_the_router_for_names_if_it_serves_them(router: Router) -> None:
    spec = router_spec(router, port_of)
    types = router.network.types
    assert (spec.dhcp is not None, spec.dns is not None) == ("DHCP" in types, "DNS" in types)
    if spec.dhcp is not None:
        expected = ["10.0.0.1"] if "DNS" in types else ["192.0.2.53"]
        assert [str(one) for one in spec.dhcp.dns_servers] == expected
        assert [str(one) for one in spec.dhcp.routers] == ["10.0.0.1"]
    if spec.dns is not None:
        assert len(spec.dns.records) == len(router.nics)


@given(router=routers())
def test_flat_services_of_all_hosts_are_those_of_the_network(router: Router) -> None:
    """Each NIC is served where its VM runs or may run, each EIP at one place; and the server looks the same on all."""
    flat = FlatNetwork(
        router.uuid,
        router.network,
        router.nics,
        router.eips,
        (AddressInNetwork(ip_address("10.0.0.250"), 24, None).interface,),
        router.publics,
    )
    specs = {uuid: flat_spec(flat, uuid, port_of) for uuid in flat.hosts}
    for nic in router.nics:
        assert {uuid for uuid, spec in specs.items() if nic.uuid in {one.nic_uuid for one in spec.nics}} == nic.hosts
    served = [one for spec in specs.values() for one in spec.eips]
    assert len(served) == (len(router.eips) if "EIP" in router.network.types else 0)
    assert len({one.outside.mac for one in served}) == len(served)
    assert len({spec.inside.to_json() for spec in specs.values()}) == 1


@given(uuid=st.uuids(), other=st.uuids())
def test_macs_of_services_are_no_nics(uuid: UUID, other: UUID) -> None:
    """Locally administered, of one interface, and the same every time."""
    mac = service_mac(uuid, other)
    assert mac == service_mac(uuid, other)
    assert int(mac[:2], 16) & 0b11 == 0b10
    assert mac[:5] != derived_mac(uuid, 0)[:5]


@given(ip=st.ip_addresses())
def test_made_name_is_one_label(ip: object) -> None:
    nic = NicOnNetwork(L3, L3, HOSTS[0], None, "", None, True, (AddressInNetwork(ip, 24, None),))  # type: ignore[arg-type]
    name = name_of(nic)
    assert name is not None
    assert name.replace("-", "").isalnum()
    assert not name.endswith("-")
    assert len(name) <= 63


def test_what_accounts_have_networks_of_has_no_place_for_services() -> None:
    """Hosts have each account's network alone, and only for its VMs."""
    ports = Ports(L2Types.from_entry_points())
    assert ports.has_any(l2(INSIDE))
    common = {"type": "L2VxlanNetwork", "vlan": None, "bridge_name": ""}
    ranged = {**l2(INSIDE).model_dump(), **common, "vniRange": {"startVni": 1, "endVni": 9}}
    assert not ports.has_any(L2NetworkInventory.model_validate(ranged))
