"""Where tunnels end, who is whose peer, and when a host has to be told."""

from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viaduct_common.messages.agent import InterfaceFact, Peer, PeerNic
from viaduct_manager.model.tunnels import Place, Tunnels, host_addresses, tunnel_end

NETWORK = UUID(int=1)
hosts = st.integers(1, 6).map(lambda number: UUID(int=number))
ends = st.none() | st.integers(1, 5).map(lambda number: IPv4Address(f"192.0.2.{number}"))
nics = st.lists(
    st.builds(
        PeerNic,
        mac=st.integers(0, 3).map(lambda number: f"52:54:00:00:00:0{number}"),
        ips=st.lists(st.integers(1, 3).map(lambda number: IPv4Address(f"10.0.0.{number}")), max_size=2),
    ),
    max_size=2,
)


@st.composite
def fleets(draw: st.DrawFn) -> Tunnels:
    places = draw(
        st.lists(
            st.builds(Place, l2_uuid=st.just(NETWORK), host_uuid=hosts, member=st.booleans(), end=ends),
            max_size=6,
            unique_by=lambda place: place.host_uuid,
        )
    )
    return Tunnels(places, {(NETWORK, place.host_uuid): draw(nics) for place in places})


def content(fleet: Tunnels, host_uuid: UUID) -> Any:
    """What the host is told, in no order."""
    return fleet.end(NETWORK, host_uuid), {peer.host_uuid: peer for peer in fleet.peers(NETWORK, host_uuid)}


@given(one=fleets(), two=fleets(), host_uuid=hosts)
def test_digest_is_equal_exactly_for_equal_content(one: Tunnels, two: Tunnels, host_uuid: UUID) -> None:
    """So a host is told anew if, and only if, it would hear something new."""
    same = content(one, host_uuid) == content(two, host_uuid)

    assert (one.digest(NETWORK, host_uuid) == two.digest(NETWORK, host_uuid)) == same


@given(data=st.data(), host_uuid=hosts, own=st.lists(nics, min_size=2, max_size=2))
def test_order_and_own_nics_are_no_news(data: st.DataObject, host_uuid: UUID, own: list[list[PeerNic]]) -> None:
    """What the database gives in another order, or a NIC on the host itself, costs the host no message."""
    strategy = st.builds(Place, l2_uuid=st.just(NETWORK), host_uuid=hosts, member=st.booleans(), end=ends)
    places = data.draw(st.lists(strategy, max_size=6, unique_by=lambda place: place.host_uuid))
    shuffled = data.draw(st.permutations(places))
    one, two = (
        Tunnels(order, {(NETWORK, host_uuid): nics_}) for order, nics_ in zip((places, shuffled), own, strict=True)
    )

    assert one.digest(NETWORK, host_uuid) == two.digest(NETWORK, host_uuid)
    assert content(one, host_uuid) == content(two, host_uuid)


@given(fleet=fleets(), host_uuid=hosts)
def test_peers_are_the_other_members_that_have_an_end(fleet: Tunnels, host_uuid: UUID) -> None:
    """Never the host itself, nor who is only asked."""
    places = [fleet.place(NETWORK, UUID(int=number)) for number in range(1, 7)]
    with_end = {place.host_uuid for place in places if place is not None and place.member and place.end is not None}

    peers = fleet.peers(NETWORK, host_uuid)
    assert {peer.host_uuid for peer in peers} == with_end - {host_uuid}
    assert all(peer.tunnel_ip == fleet.end(NETWORK, peer.host_uuid) for peer in peers)


def test_network_without_tunnels_has_neither_end_nor_peers() -> None:
    """The database gave no place of it."""
    nothing = Tunnels([], {})

    assert (nothing.end(NETWORK, UUID(int=1)), nothing.peers(NETWORK, UUID(int=1)), nothing.untold()) == (None, [], [])


@pytest.mark.parametrize(
    ("generation", "told", "reachable", "expected"),
    [
        (1, "right", True, False),
        (1, "right", False, False),
        (1, "other", True, True),
        (1, "other", False, True),  # so that it differs when it returns
        (1, None, True, True),
        (1, None, False, False),  # it will be told everything when it returns: no need to count on
        (None, None, True, False),  # it should not have it
    ],
)
def test_who_has_to_be_told(generation: int | None, told: str | None, reachable: bool, expected: bool) -> None:
    """Whoever was told something else; who is away only once."""
    host = UUID(int=1)
    peer = Place(NETWORK, UUID(int=2), True, IPv4Address("192.0.2.2"), 7, "x", False)
    bare = Place(NETWORK, host, True, IPv4Address("192.0.2.1"))
    right = Tunnels([bare, peer], {}).digest(NETWORK, host)
    place = Place(NETWORK, host, True, bare.end, generation, right if told == "right" else told, reachable)

    assert (place in Tunnels([place, peer], {}).untold()) == expected


addresses = st.sets(
    st.integers(0, 15).map(lambda number: ip_address(f"10.0.{number // 4}.{number % 4}"))
    | st.integers(0, 3).map(lambda number: ip_address(f"2001:db8::{number}")),
    max_size=5,
)


@given(
    cidr=st.none() | st.sampled_from(["10.0.0.0/30", "10.0.0.0/22", "2001:db8::/64", "172.16.0.0/12"]).map(ip_network),
    tunnel_ip=st.none() | st.sampled_from([ip_address("10.0.0.1"), ip_address("10.0.3.3")]),
    addresses=addresses,
)
def test_end_is_never_a_guess(cidr: Any, tunnel_ip: Any, addresses: set[Any]) -> None:
    """With a CIDR an address of the host inside it, or none; without one the host's `tunnelIp`."""
    end = tunnel_end(cidr, tunnel_ip, addresses)
    if cidr is None:
        assert end == tunnel_ip
        return
    inside = {one for one in addresses if one in cidr}
    if tunnel_ip in inside:
        assert end == tunnel_ip
    elif len(inside) == 1:
        assert {end} == inside
    else:
        assert end is None


def test_addresses_are_taken_from_all_interfaces() -> None:
    """With or without a prefix, each once; what is no address is nobody's mistake here."""
    facts = [
        InterfaceFact(name="lo", mtu=65536, up=True, addresses=["10.0.0.9/32", "10.0.0.9"]),
        InterfaceFact(name="eth0", mtu=1500, up=True, addresses=["2001:db8::1/64", "10.0.0.1/24", "", "10.0.0.1/99"]),
    ]

    assert [str(one) for one in host_addresses(facts)] == ["10.0.0.1", "10.0.0.9", "2001:db8::1"]


def test_peer_of_the_wire_says_nothing_but_host_end_and_nics() -> None:
    """A field that is added there is in the digest by itself; one that changes with time would tell hosts for ever."""
    assert set(Peer.model_fields) == {"host_uuid", "tunnel_ip", "nics"}
