"""Anti-spoofing: what a NIC may say it is. No state is needed, so it is asked before anything learns from the frame."""

from functools import lru_cache
from ipaddress import IPv6Address

from viaduct_agent.services.security.model import Nic
from viaduct_agent.services.security.rules import RARP
from viaduct_agent.services.security.ruleset import Line, line

# Offsets in bits from the ICMPv6 header (RFC 4861, §4): the target of a solicitation or advertisement, then the first
# option: kind and length (in units of eight octets), and the MAC.
_TARGET, _OPTION, _OPTION_MAC = "@th,64,128", "@th,192,16", "@th,208,48"
_SOURCE_OPTION, _TARGET_OPTION = "0x0101", "0x0201"


def serving() -> tuple[Line, ...]:
    """What only a router or a DHCP server says."""
    texts = (
        "meta protocol ip6 icmpv6 type { nd-router-advert, nd-redirect } drop",
        "meta protocol ip udp sport 67 drop",
        "meta protocol ip6 udp sport 547 drop",
    )
    return tuple(map(line, texts))


@lru_cache(maxsize=4096)
def guard(nic: Nic) -> tuple[Line, ...]:
    """The chain that all frames from the NIC pass first; a tagged one is dropped, for nobody sees what is in it."""
    return tuple(map(line, (*_link(nic), *_ipv4(nic), *_ipv6(nic))))


def _link(nic: Nic) -> tuple[str, ...]:
    addresses = _list(["0.0.0.0", *_own(nic, 4)])  # a probe (RFC 5227) has no sender
    return (
        f"ether saddr != {nic.mac} drop",
        f"ether type {RARP} accept",
        f"ether type arp arp saddr ether != {nic.mac} drop",
        f"ether type arp arp saddr ip != {addresses} drop",
        "ether type arp accept",
        "ether type != { ip, ip6 } drop",
    )


def _ipv4(nic: Nic) -> tuple[str, ...]:
    own = _own(nic, 4)
    asks = "ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept"
    return (asks, f"ip saddr != {_list(own)} drop" if own else "ether type ip drop")


def _ipv6(nic: Nic) -> tuple[str, ...]:
    own = [*_own(nic, 6), str(link_local(nic.mac))]
    targets = _list([f"0x{IPv6Address(ip).packed.hex()}" for ip in own])
    advert, solicit = "icmpv6 type nd-neighbor-advert", "icmpv6 type nd-neighbor-solicit"
    mac = f"0x{nic.mac.replace(':', '')}"
    return (
        f"ip6 saddr :: {solicit} {_TARGET} != {targets} drop",  # an address that is not its own is not tried either
        "ip6 saddr :: icmpv6 type { nd-neighbor-solicit, nd-router-solicit, mld2-listener-report } accept",
        f"ip6 saddr != {_list(own)} drop",
        f"{advert} {_TARGET} != {targets} drop",
        f"{advert} {_OPTION} {_TARGET_OPTION} {_OPTION_MAC} != {mac} drop",
        f"{solicit} {_OPTION} {_SOURCE_OPTION} {_OPTION_MAC} != {mac} drop",
        f"icmpv6 type nd-router-solicit @th,64,16 {_SOURCE_OPTION} @th,80,48 != {mac} drop",
    )


def link_local(mac: str) -> IPv6Address:
    """RFC 4291, appendix A.

    >>> link_local("52:54:00:12:34:56")
    IPv6Address('fe80::5054:ff:fe12:3456')
    """
    octets = bytes.fromhex(mac.replace(":", ""))
    interface = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return IPv6Address(b"\xfe\x80" + bytes(6) + interface)


def _own(nic: Nic, version: int) -> list[str]:
    return [str(ip) for ip in sorted((ip for ip in nic.ips if ip.version == version), key=int)]


def _list(items: list[str]) -> str:
    return f"{{ {', '.join(items)} }}"
