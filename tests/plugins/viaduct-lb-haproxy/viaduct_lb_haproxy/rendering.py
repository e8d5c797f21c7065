"""A spec as HAProxy's configuration file (HAProxy 2.4 to 3.2, configuration manual §4)."""

from collections.abc import Iterator
from ipaddress import IPv6Address

from viaduct_lb_haproxy.fields import HaproxySpec, ServedListener, Server

_HEAD = """\
global
    maxconn 4000
    user haproxy
    group haproxy
defaults
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option redispatch
    default-server check inter 2s fall 3 rise 2
"""


def render(spec: HaproxySpec) -> str:
    """The same spec gives the same text; the order of listeners and servers does not matter."""
    listeners = sorted(spec.listeners, key=lambda one: one.port)
    lines = [line for listener in listeners for line in _listener(spec, listener)]
    return _HEAD + "".join(f"{line}\n" for line in lines)


def _listener(spec: HaproxySpec, listener: ServedListener) -> Iterator[str]:
    yield f"listen {listener.name}"
    yield f"    mode {listener.protocol.lower()}"
    yield f"    balance {listener.balance}"
    for address in spec.leg.addresses:
        colon = "[{}]" if isinstance(address.ip, IPv6Address) else "{}"
        yield f"    bind {colon.format(address.ip)}:{listener.port}"
    for server in sorted(listener.servers, key=lambda one: (one.name, one.port)):
        yield f"    server {_name(server)} {_address(server)} weight {server.weight}"


def _name(server: Server) -> str:
    return f"{server.name}-{server.port}"


def _address(server: Server) -> str:
    return f"[{server.ip}]:{server.port}" if isinstance(server.ip, IPv6Address) else f"{server.ip}:{server.port}"
