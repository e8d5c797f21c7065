"""Address translation in nftables: EIPs, forwarded ports, SNAT, and the filter around them. Pure.

```
from outside ──> translate_in ──────────> route ──> filter ──────────────────> translate_out ──> inside
                 public -> private                  only what was translated    -
from inside ───> translate_in ──────────> route ──> filter ──────────────────> translate_out ──> outside
                 -                                  who has a public address    private -> public
inside to its own public address ("hairpin"): both, so that the answer comes back this way
```
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from viaduct_agent.services.conntrack import Translation
from viaduct_agent.services.nft import Table
from viaduct_agent.services.space import INSIDE, Version
from viaduct_common.messages.services.specs import EipRule, PortForwardingRule

TABLE = "viaduct"
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
VERSIONS: tuple[Version, Version] = (4, 6)
_WORD = {4: "ip", 6: "ip6"}
_TYPE = {4: "ipv4_addr", 6: "ipv6_addr"}


@dataclass(frozen=True, slots=True)
class Rules:
    """`marks` are numbers by outside leg, where there are several: an answer leaves by the leg that was asked.
    `served_ports` are those of our own (UDP, TCP) that the inside may use."""

    inside: tuple[Network, ...]
    eips: tuple[EipRule, ...] = ()
    forwardings: tuple[PortForwardingRule, ...] = ()
    snat: tuple[Address, ...] = ()
    marks: Mapping[str, int] | None = None
    udp_ports: tuple[int, ...] = ()
    tcp_ports: tuple[int, ...] = ()


def table(rules: Rules) -> Table:
    chains = [*_maps(rules), *_marking(rules), *_translate_in(rules), *_translate_out(rules), *_filters(rules)]
    return Table("inet", TABLE, "\n".join(chains))


def translations(
    eips: Iterable[EipRule], forwardings: Iterable[PortForwardingRule], snat: Iterable[Address]
) -> frozenset[Translation]:
    """What the rules do, for knowing which connections a change of them concerns."""
    found = {Translation(_version(one.public_ip), str(one.public_ip), str(one.private_ip)) for one in eips}
    for one in forwardings:
        found.add(
            Translation(
                version=_version(one.public_ip),
                public=str(one.public_ip),
                private=str(one.private_ip),
                protocol="tcp" if one.protocol == "TCP" else "udp",
                start=one.public_start,
                end=one.public_end,
                detail=f"{one.private_start} {one.allowed_cidr}",
            )
        )
    found |= {Translation(_version(ip), str(ip)) for ip in snat}
    return frozenset(found)


def _maps(rules: Rules) -> Iterator[str]:
    for version in VERSIONS:
        pairs = [(one.public_ip, one.private_ip) for one in rules.eips if one.public_ip.version == version]
        yield _map(f"eip_in{version}", version, pairs)
        yield _map(f"eip_out{version}", version, [(private, public) for public, private in pairs])
        networks = ", ".join(str(network) for network in rules.inside if network.version == version)
        elements = f" elements = {{ {networks} }};" if networks else ""
        yield f"set inside{version} {{ type {_TYPE[version]}; flags interval;{elements} }}"


def _map(name: str, version: int, pairs: Sequence[tuple[Address, Address]]) -> str:
    elements = ", ".join(f"{key} : {value}" for key, value in sorted(pairs, key=str))
    body = f" elements = {{ {elements} }};" if pairs else ""
    return f"map {name} {{ type {_TYPE[version]} : {_TYPE[version]};{body} }}"


def _marking(rules: Rules) -> Iterator[str]:
    if not rules.marks:
        return
    legs = ", ".join(f'"{leg}" : {mark:#x}' for leg, mark in sorted(rules.marks.items()))
    yield "chain marking { type filter hook prerouting priority mangle; policy accept;"
    yield f'iifname != "{INSIDE}" ct state new ct mark set iifname map {{ {legs} }}'
    yield f'iifname "{INSIDE}" ct direction reply meta mark set ct mark'
    yield "}"


def _translate_in(rules: Rules) -> Iterator[str]:
    yield "chain translate_in { type nat hook prerouting priority dstnat; policy accept;"
    for version in VERSIONS:
        word = _WORD[version]
        yield f"dnat {word} to {word} daddr map @eip_in{version}"
    for one in sorted(rules.forwardings, key=lambda one: (str(one.public_ip), one.protocol, one.public_start)):
        yield _forwarding(one)
    yield "}"


def _forwarding(one: PortForwardingRule) -> str:
    word, protocol = _WORD[one.public_ip.version], one.protocol.lower()
    words = [f"{word} daddr {one.public_ip}"]
    if one.allowed_cidr is not None:
        words.append(f"{word} saddr {one.allowed_cidr}")
    is_one = one.public_start == one.public_end
    ports = str(one.public_start) if is_one else f"{one.public_start}-{one.public_end}"
    target = f"[{one.private_ip}]" if one.private_ip.version == 6 else str(one.private_ip)
    words.append(f"{protocol} dport {ports} dnat {word} to")
    if one.public_start == one.private_start:
        words.append(target.strip("[]"))  # the port stays as it is
    elif is_one:
        words.append(f"{target}:{one.private_start}")
    else:  # nftables itself would choose any port of a range
        shift = one.private_start - one.public_start
        pairs = ", ".join(f"{port} : {port + shift}" for port in range(one.public_start, one.public_end + 1))
        words.append(f"{target} : {protocol} dport map {{ {pairs} }}")
    return " ".join(words)


def _translate_out(rules: Rules) -> Iterator[str]:
    """To whom a translated packet goes inside, we are the sender: else the answer would go past us."""
    yield "chain hairpin {"
    for version in VERSIONS:
        yield f"snat {_WORD[version]} to {_WORD[version]} saddr map @eip_out{version}"
    yield "masquerade"
    yield "}"
    yield "chain translate_out { type nat hook postrouting priority srcnat; policy accept;"
    for version in VERSIONS:
        yield f'oifname "{INSIDE}" ct status dnat {_WORD[version]} saddr @inside{version} goto hairpin'
    yield f'oifname "{INSIDE}" accept'
    for version in VERSIONS:
        yield f"snat {_WORD[version]} to {_WORD[version]} saddr map @eip_out{version}"
    for ip in rules.snat:
        word = _WORD[ip.version]
        yield f"{word} saddr @inside{ip.version} snat {word} to {ip}"
    yield "}"


def _filters(rules: Rules) -> Iterator[str]:
    """A private address is never seen outside, and nothing comes in that was not translated."""
    yield "chain through { type filter hook forward priority filter; policy drop;"
    yield "ct state established,related accept"
    yield "ct status dnat accept"
    yield f'iifname "{INSIDE}" oifname "{INSIDE}" accept'
    for version in VERSIONS:
        word = _WORD[version]
        if any(ip.version == version for ip in rules.snat):
            yield f'iifname "{INSIDE}" {word} saddr @inside{version} accept'
        holders = sorted(str(one.private_ip) for one in rules.eips if one.private_ip.version == version)
        if holders:
            yield f'iifname "{INSIDE}" {word} saddr {{ {", ".join(holders)} }} accept'
    yield "}"
    yield "chain to_us { type filter hook input priority filter; policy drop;"
    yield 'iifname "lo" accept'
    yield "ct state established,related accept"
    yield "meta l4proto { icmp, ipv6-icmp } accept"
    for protocol, ports in (("udp", rules.udp_ports), ("tcp", rules.tcp_ports)):
        if ports:
            yield f'iifname "{INSIDE}" {protocol} dport {{ {", ".join(map(str, ports))} }} accept'
    yield "}"


def _version(ip: Address) -> Version:
    return 4 if ip.version == 4 else 6
