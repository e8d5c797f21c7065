"""dnsmasq's files, from a spec: pure.

What changes often (NICs, names, options, forwarders) is in files that it reads anew on SIGHUP; what it reads at its
start alone is in `dnsmasq.conf`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Final
from uuid import UUID

from viaduct_common.messages.services.specs import DhcpSpec, DnsRecord, DnsSpec, FlatSpec, RouterSpec, ServedNic

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface

CONF, HOSTS, OPTIONS, NAMES, SERVERS, LEASES, PID = (
    "dnsmasq.conf", "hosts", "options", "names", "servers", "leases", "dnsmasq.pid",
)  # fmt: skip
_NO_DEFAULT = "second"  # the tag of NICs that do not carry their VM's default route
_ENTERPRISE: Final = 32473  # RFC 5612: for examples and documents; a DUID of a number of nobody's is unique by its rest
_RA_SECONDS, _ROUTER_SECONDS = 200, 1800  # RFC 4861 §6.2.1 has 600 and 1800: a lost advertisement hurts less
_CLASSLESS_ROUTES = (121, 249)  # RFC 3442, and Microsoft's number for the same


@dataclass(frozen=True, slots=True)
class Served:
    """What one dnsmasq serves. `addresses` are its own on `device`, a router's or only a server's: it advertises itself
    as a router if one of them is among `dhcp.routers`, and with `last_resort` for hosts that know no other."""

    l3_network: UUID
    device: str
    addresses: tuple[Interface, ...]
    nics: tuple[ServedNic, ...]
    dhcp: DhcpSpec | None
    dns: DnsSpec | None
    last_resort: bool = False


def served_by(spec: RouterSpec | FlatSpec, device: str, *, last_resort: bool = False) -> Served | None:
    """What a router or a flat network has served; None if it needs no dnsmasq."""
    if spec.dhcp is None and spec.dns is None:
        return None
    return Served(
        l3_network=spec.l3_network_uuid,
        device=device,
        addresses=tuple(spec.inside.addresses),
        nics=tuple(spec.nics),
        dhcp=spec.dhcp,
        dns=spec.dns,
        last_resort=last_resort,
    )


def files(served: Served, directory: str) -> dict[str, str]:
    """Text by file name; those that the services need."""
    found = {CONF: "\n".join([*_general(served, directory), *_dns(served, directory), *_dhcp(served, directory), ""])}
    if served.dhcp is not None:
        found[HOSTS] = "".join(f"{line}\n" for line in _hosts(served))
        found[OPTIONS] = "".join(f"{line}\n" for line in _options(served.dhcp))
    if served.dns is not None:
        found[NAMES] = "".join(f"{line}\n" for line in _names(served.dns.records, _domain(served)))
        found[SERVERS] = "".join(f"server={ip}\n" for ip in served.dns.forwarders)
    return found


def stale_addresses(hosts_before: str, hosts_now: str) -> frozenset[str]:
    """Addresses whose leases must be forgotten: those of NICs that are gone or have others now."""
    before, now = dict(_owners(hosts_before)), dict(_owners(hosts_now))
    return frozenset(address for address, mac in before.items() if now.get(address) != mac)


def without_leases(leases: str, addresses: frozenset[str]) -> str:
    """A lease file without those of some addresses: `expiry mac-or-iaid address name id`, one on a line."""
    kept = [line for line in leases.splitlines(keepends=True) if line.split()[2:3] not in [[one] for one in addresses]]
    return "".join(kept)


def _general(served: Served, directory: str) -> Iterator[str]:
    yield f"# {served.device}: {' '.join(map(str, served.addresses))}"  # it binds to those at its start
    yield f"pid-file={directory}/{PID}"
    yield f"log-facility={directory}/dnsmasq.log"
    yield f"interface={served.device}"
    yield "except-interface=lo"
    yield "bind-interfaces"
    yield "no-resolv"
    yield "no-hosts"
    yield "no-poll"


def _dns(served: Served, directory: str) -> Iterator[str]:
    if served.dns is None:
        yield "port=0"
        return
    yield "strict-order"
    yield f"addn-hosts={directory}/{NAMES}"
    yield f"servers-file={directory}/{SERVERS}"


def _dhcp(served: Served, directory: str) -> Iterator[str]:
    dhcp = served.dhcp
    if dhcp is None:
        return
    yield "dhcp-authoritative"
    yield "dhcp-ignore=tag:!known"
    yield "dhcp-ignore-names"  # a VM must not name itself as another in our DNS
    yield "dhcp-lease-max=1000000"
    yield "no-ping"
    yield from ("quiet-dhcp", "quiet-dhcp6", "quiet-ra")
    yield f"dhcp-hostsfile={directory}/{HOSTS}"
    yield f"dhcp-optsfile={directory}/{OPTIONS}"
    yield f"dhcp-leasefile={directory}/{LEASES}"
    if domain := _domain(served):
        yield f"domain={domain}"
    for own in served.addresses:
        yield _range(own, dhcp.lease_seconds)
    if any(own.version == 6 for own in served.addresses):
        # The same server after a move to another host: a client that renews asks for the one that it knows.
        yield f"dhcp-duid={_ENTERPRISE},{':'.join(f'{octet:02x}' for octet in served.l3_network.bytes)}"
        yield "enable-ra"
        router = any(own.ip in dhcp.routers for own in served.addresses if own.version == 6)
        preference = "low," if served.last_resort and not router else ""
        lifetime = _ROUTER_SECONDS if router or served.last_resort else 0
        yield f"ra-param={served.device},mtu:{dhcp.mtu},{preference}{_RA_SECONDS},{lifetime}"


def _range(own: Interface, lease_seconds: int) -> str:
    network = own.network
    if isinstance(own, IPv4Interface):
        return f"dhcp-range={network.network_address},static,{network.netmask},{lease_seconds}s"
    length = max(network.prefixlen, 64)  # dnsmasq takes no shorter ones
    start = IPv6Address(int(own.ip) >> (128 - length) << (128 - length)) if length < 128 else own.ip
    return f"dhcp-range={start},static,{length},{lease_seconds}s"


def _domain(served: Served) -> str | None:
    of_dhcp = served.dhcp.domain if served.dhcp else None
    return of_dhcp or (served.dns.domain if served.dns else None)


def _hosts(served: Served) -> Iterator[str]:
    networks = [own.network for own in served.addresses]
    for nic in sorted(served.nics, key=lambda nic: nic.mac):
        ips = [ip for ip in nic.ips if any(ip in network for network in networks)]
        first4 = [str(ip) for ip in ips if ip.version == 4][:1]
        all6 = [f"[{ip}]" for ip in ips if ip.version == 6]
        if not (first4 or all6):
            continue
        words = [nic.mac, *([] if nic.default else [f"set:{_NO_DEFAULT}"]), *first4, *all6]
        yield ",".join([*words, *([nic.host_name] if nic.host_name else [])])


def _owners(hosts: str) -> Iterator[tuple[str, str]]:
    for line in hosts.splitlines():
        mac, *words = line.split(",")
        for word in words:
            if word.startswith("["):
                yield word.strip("[]"), mac
            elif word.count(".") == 3:
                yield word, mac


def _options(dhcp: DhcpSpec) -> Iterator[str]:
    """An option without a value is one that is not sent."""
    default, second = f"tag:!{_NO_DEFAULT}", f"tag:{_NO_DEFAULT}"
    routers, dns = _of(dhcp.routers, 4), _of(dhcp.dns_servers, 4)
    yield ",".join([default, "option:router", *routers])
    yield f"{second},option:router"
    yield ",".join([default, "option:dns-server", *dns])
    yield f"{second},option:dns-server"
    yield f"option:mtu,{dhcp.mtu}"
    if dhcp.domain:
        yield f"option:domain-name,{dhcp.domain}"
        yield f"option6:domain-search,{dhcp.domain}"
    yield ",".join([default, "option6:dns-server", *(f"[{ip}]" for ip in _of(dhcp.dns_servers, 6))])
    yield f"{second},option6:dns-server"
    routes = [f"{one.prefix},{one.next_hop}" for one in dhcp.routes if one.prefix.version == one.next_hop.version == 4]
    if routes:
        # Who takes 121 ignores the routers (RFC 3442), so the default route is in it.
        with_default = [*routes, *(f"0.0.0.0/0,{router}" for router in routers[:1])]
        for option in _CLASSLESS_ROUTES:
            yield ",".join([default, str(option), *with_default])
            yield ",".join([second, str(option), *routes])


def _of(addresses: Sequence[Address], version: int) -> list[str]:
    return [str(ip) for ip in addresses if ip.version == version]


def _names(records: Iterable[DnsRecord], domain: str | None) -> Iterator[str]:
    for record in records:
        names = f"{record.host_name}.{domain} {record.host_name}" if domain else record.host_name
        for ip in record.ips:
            yield f"{ip} {names}"
