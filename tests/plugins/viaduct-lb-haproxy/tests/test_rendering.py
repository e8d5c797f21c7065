"""HAProxy's configuration: made of plain values, and taken by HAProxy itself."""

import subprocess
from ipaddress import IPv6Address
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viaduct_lb_haproxy.fields import HaproxySpec, LoadBalancerConfig
from viaduct_lb_haproxy.rendering import render

NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
PORTS = st.integers(1, 65535)
IPS = st.sampled_from(["10.0.0.5", "10.0.0.6", "fd00::5"])


@st.composite
def specs(draw: st.DrawFn) -> HaproxySpec:
    names = draw(st.lists(NAMES, max_size=4, unique=True))
    ports = draw(st.lists(PORTS, min_size=len(names), max_size=len(names), unique=True))
    server = st.builds(
        lambda name, ip, port: {"name": str(name), "ip": ip, "port": port, "weight": 3}, st.uuids(), IPS, PORTS
    )
    listeners: list[dict[str, Any]] = [
        {
            "name": name,
            "port": port,
            "protocol": draw(st.sampled_from(["TCP", "HTTP"])),
            "balance": draw(st.sampled_from(["roundrobin", "leastconn", "source"])),
            "servers": draw(st.lists(server, max_size=3)),
        }
        for name, port in zip(names, ports, strict=True)
    ]
    leg = {
        "port": {"l2_network_uuid": uuid4(), "bridge": "br0"},
        "mac": "fa:00:00:00:00:01",
        "mtu": 1500,
        "addresses": ["10.0.0.2/24", "fd00::2/64"],
    }
    return HaproxySpec.model_validate({"l3_network_uuid": uuid4(), "leg": leg, "listeners": listeners})


@settings(deadline=None)
@given(specs())
def test_every_listener_is_on_every_address_and_the_order_does_not_matter(spec: HaproxySpec) -> None:
    text = render(spec)
    for listener in spec.listeners:
        assert f"listen {listener.name}\n" in text
        assert f"bind 10.0.0.2:{listener.port}\n" in text
        assert f"bind [fd00::2]:{listener.port}\n" in text
        for server in listener.servers:
            address = f"[{server.ip}]" if isinstance(server.ip, IPv6Address) else f"{server.ip}"
            assert f"server {server.name}-{server.port} {address}:{server.port} weight 3\n" in text
    assert render(spec.model_copy(update={"listeners": spec.listeners[::-1]})) == text


@settings(deadline=None, max_examples=20)  # it is a program that is run
@given(specs().filter(lambda spec: bool(spec.listeners)))
def test_haproxy_takes_it(spec: HaproxySpec) -> None:
    done = subprocess.run(
        ["haproxy", "-c", "-q", "-f", "/dev/stdin"],
        input=render(spec),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("what", ["name", "port"])
def test_two_listeners_do_not_collide(what: str) -> None:
    two = [{"name": "web", "port": 80}, {"name": "mail", "port": 25} | {what: {"name": "web", "port": 80}[what]}]
    with pytest.raises(ValueError, match=f"two listeners have the {what}"):
        LoadBalancerConfig.model_validate({"listeners": two})
