"""What keeps a distributed server on its host: nftables of the bridge family, in the host's own namespace. Pure.

Every host has the same server, with the same MAC and addresses. So its leg speaks with this host's NICs alone, and
nothing of it, nor anything for it, crosses another port of the bridge. A NIC with an EIP sends what leaves its network
to the leg instead of to the network's gateway.

The chains are at priority -200, `filter` of that family: those at 0 are skipped once br_netfilter is on.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from viaduct_agent.services.nft import Table

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
_MANY: dict[int, tuple[str, ...]] = {4: ("224.0.0.0/4", "255.255.255.255/32"), 6: ("fe80::/10", "ff00::/8")}
_WORD = {4: "ip", 6: "ip6"}


@dataclass(frozen=True, slots=True)
class Kept:
    """`leg` is the host's end, `mac` that of the other; `taps` are the served NICs' devices. `translated` are the
    private addresses of EIPs by tap, for which the leg is at `gateways` too."""

    name: str
    leg: str
    mac: str
    networks: tuple[Network, ...]
    servers: tuple[Address, ...]
    taps: tuple[str, ...]
    translated: Mapping[str, tuple[Address, ...]]
    gateways: tuple[Address, ...]
    dhcp: bool


def table(kept: Kept) -> Table:
    return Table("bridge", kept.name, "\n".join([*_arriving(kept), *_crossing(kept), *_hosts_own(kept)]))


def _arriving(kept: Kept) -> Iterator[str]:
    yield "chain arriving { type filter hook prerouting priority -200; policy accept;"
    yield f'iifname != "{kept.leg}" ether saddr {kept.mac} drop'  # another host's, and before the bridge learns it
    for tap, addresses in sorted(kept.translated.items()):
        for ip in addresses:
            word = _WORD[ip.version]
            near = [str(one) for one in kept.networks if one.version == ip.version] + list(_MANY[ip.version])
            far = f"{word} saddr {ip} {word} daddr != {_set(near)}"
            yield f'iifname "{tap}" {far} ether daddr set {kept.mac}'
    yield "}"


def _crossing(kept: Kept) -> Iterator[str]:
    leg = kept.leg
    yield "chain crossing { type filter hook forward priority -200; policy accept;"
    if not kept.taps:
        yield f'oifname "{leg}" drop'
        yield f'iifname "{leg}" drop'
        yield "}"
        return
    taps = _names(kept.taps)
    yield f'oifname "{leg}" iifname != {taps} drop'
    yield f'iifname "{leg}" oifname != {taps} drop'
    yield f'ether daddr {kept.mac} oifname != "{leg}" drop'
    elsewhere = f'iifname {taps} oifname != "{leg}"'
    for ip in kept.servers:
        yield f"{elsewhere} {_asks_for(ip)} drop"
    if kept.dhcp:
        yield f"{elsewhere} udp sport 68 udp dport 67 drop"
        yield f"{elsewhere} udp sport 546 udp dport 547 drop"
    others = f"iifname != {_names(kept.translated)} " if kept.translated else ""
    for ip in kept.gateways:
        yield f'{others}oifname "{leg}" {_asks_for(ip)} drop'
    yield "}"


def _hosts_own(kept: Kept) -> Iterator[str]:
    """The host itself is no client."""
    yield "chain from_host { type filter hook output priority -200; policy accept;"
    yield f'oifname "{kept.leg}" drop'
    yield "}"
    yield "chain to_host { type filter hook input priority -200; policy accept;"
    yield f'iifname "{kept.leg}" drop'
    yield "}"


def _asks_for(ip: Address) -> str:
    """An ARP request for an address, or a neighbour solicitation: its target begins 8 octets in (RFC 4861 §4.3)."""
    if isinstance(ip, IPv4Address):
        return f"arp operation request arp daddr ip {ip}"
    return f"icmpv6 type nd-neighbor-solicit @th,64,128 {int(ip):#034x}"


def _names(devices: Iterable[str]) -> str:
    return _set(f'"{device}"' for device in sorted(devices))


def _set(elements: Iterable[str]) -> str:
    return f"{{ {', '.join(elements)} }}"
