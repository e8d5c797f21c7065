"""Who may have a public address, and how forwarded ports pair up."""

from ipaddress import ip_address, ip_interface
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viaduct_common.errors import Conflict, InvalidRequest, PreconditionFailed, ServiceConflict, ViaductError
from viaduct_manager.model.public_addresses import (
    EIP,
    PORT_FORWARDING,
    SNAT,
    PublicVip,
    TargetNic,
    forwarded_ports,
    require_eip_fits,
    require_forwarding_fits,
    require_unused,
    target_address,
)

PUBLIC, PRIVATE, L2 = UUID(int=1), UUID(int=2), UUID(int=3)
interfaces = st.one_of(
    st.integers(2, 254).map(lambda n: ip_interface(f"10.0.0.{n}/24")),
    st.integers(2, 254).map(lambda n: ip_interface(f"fd00::{n:x}/64")),
)
ports = st.integers(1, 65535)
maybe_ports = st.none() | ports


def vip(ip: str = "203.0.113.5", used_for: str | None = None, *, system: bool = False) -> PublicVip:
    return PublicVip(UUID(int=9), PUBLIC, L2, ip_address(ip), used_for, system)


def nic(**fields: Any) -> TargetNic:
    usual: dict[str, Any] = {
        "uuid": UUID(int=8),
        "l3_uuid": PRIVATE,
        "ips": (ip_interface("10.0.0.5/24"),),
        "providers": {EIP: "VirtualRouter", PORT_FORWARDING: "VirtualRouter"},
        "siblings": {},
        "cluster_l2s": frozenset({L2}),
        "eips": {},
        "guarded": frozenset(),
    }
    return TargetNic(**usual | fields)


@given(ips=st.lists(interfaces, max_size=4), asked=st.none() | interfaces, six=st.booleans())
def test_address_is_the_nics_own_of_the_vips_version(ips: list[Any], asked: Any, six: bool) -> None:
    """The one that is asked for, or the first; or it is refused."""
    public = vip("fd99::5" if six else "203.0.113.5")
    want = None if asked is None else asked.ip
    own = [one.ip for one in ips if one.version == public.ip.version]
    target = nic(ips=tuple(ips))
    if own if want is None else want in own:
        assert target_address(public, target, EIP, want) == (own[0] if want is None else want)
    else:
        with pytest.raises(InvalidRequest) as refusal:
            target_address(public, target, EIP, want)
        assert refusal.value.details["field"] == ("nicUuid" if want is None else "privateIp")


@pytest.mark.parametrize(
    ("target", "error"),
    [
        pytest.param({"l3_uuid": PUBLIC}, InvalidRequest, id="on the public network itself"),
        pytest.param({"providers": {}}, PreconditionFailed, id="no service"),
        pytest.param({"siblings": {UUID(int=7): PUBLIC}}, PreconditionFailed, id="a NIC beside it"),
        pytest.param({"ips": (ip_interface("203.0.113.9/24"),)}, InvalidRequest, id="the same subnet"),
    ],
)
@pytest.mark.parametrize("service_type", [EIP, PORT_FORWARDING])
def test_vip_leads_out_of_the_nics_networks(
    target: dict[str, Any], error: type[ViaductError], service_type: str
) -> None:
    with pytest.raises(error):
        target_address(vip(), nic(**target), service_type, None)


@pytest.mark.parametrize("used_for", [None, EIP, PORT_FORWARDING, SNAT])
def test_vip_has_one_use(used_for: str | None) -> None:
    """Only forwarded ports share one."""
    for service_type, shared in ((EIP, False), (PORT_FORWARDING, True)):
        one = vip(used_for=used_for, system=used_for == SNAT)
        if used_for is None or (shared and used_for == service_type):
            require_unused(one, service_type, shared=shared)
        else:
            with pytest.raises(ServiceConflict) as refusal:
                require_unused(one, service_type, shared=shared)
            assert refusal.value.details["usedFor"] == used_for


@given(eips=st.dictionaries(st.sampled_from([4, 6]), st.uuids()), guarded=st.sets(st.uuids(), max_size=2))
def test_who_is_guarded_has_no_eip(eips: dict[int, UUID], guarded: set[UUID]) -> None:
    """Whatever comes first; and there is one EIP of a version."""
    target = nic(eips=eips, guarded=frozenset(guarded))
    try:
        require_eip_fits(vip(), target, on_its_host=True)
    except Conflict:
        assert 4 in eips or guarded
    else:
        assert 4 not in eips
        assert not guarded
    try:
        require_forwarding_fits(target, None if not guarded else ip_interface("192.0.2.0/24").network)
    except Conflict:
        assert eips
        assert guarded


def test_eip_on_the_nics_host_needs_the_public_network_there() -> None:
    require_eip_fits(vip(), nic(cluster_l2s=frozenset()), on_its_host=False)
    with pytest.raises(PreconditionFailed):
        require_eip_fits(vip(), nic(cluster_l2s=frozenset()), on_its_host=True)


@given(start=ports, end=maybe_ports, private_start=maybe_ports, private_end=maybe_ports)
def test_every_public_port_has_a_private_one(
    start: int, end: int | None, private_start: int | None, private_end: int | None
) -> None:
    """What is given is kept, an end defaults to its start, private ports to the public ones; or it is refused."""
    try:
        found = forwarded_ports(start, end, private_start, private_end)
    except InvalidRequest:
        size = (start if end is None else end) - start
        first = start if private_start is None else private_start
        last = private_end or (first if private_start is not None else start + size)
        assert size < 0 or last - first != size
        return
    assert (found.vip_start, found.vip_end) == (start, start if end is None else end)
    assert found.private_start == (start if private_start is None else private_start)
    assert private_end in {None, found.private_end}
    assert found.private_end - found.private_start == found.vip_end - found.vip_start >= 0
    assert 1 <= found.private_start <= found.private_end <= 65535


@given(start=ports, size=st.integers(0, 100))
def test_rule_that_says_it_all_twice_is_the_one_that_says_it_once(start: int, size: int) -> None:
    end = min(65535, start + size)
    assert forwarded_ports(start, end, None, None) == forwarded_ports(start, end, start, end)
