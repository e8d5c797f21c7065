"""What a machine cannot say with anti-spoofing, and what it has to be able to say."""

import contextlib
import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

import pytest

from .filters import Filter, nic, rules
from .frames import (
    BROADCAST,
    IPV4,
    LOCAL,
    RARP,
    VLAN,
    arp,
    dhcp_answer,
    dhcp_question,
    ethernet,
    icmpv6,
    nd,
    udp4,
    udp6,
)
from .machines import Machine, Site

pytestmark = pytest.mark.lab
OTHER_MAC, OTHER4, OTHER6 = "02:00:00:00:00:77", IPv4Address("10.9.0.77"), IPv6Address("fd09::77")
ALL_NODES = IPv6Address("ff02::1")
Make = Callable[[Machine, Machine], bytes]

SPOOFED: dict[str, Make] = {
    "mac": lambda me, to: udp4(OTHER_MAC, to.mac, me.ipv4, to.ipv4),
    "ipv4 source": lambda me, to: udp4(me.mac, to.mac, OTHER4, to.ipv4),
    "ipv6 source": lambda me, to: udp6(me.mac, to.mac, OTHER6, to.ipv6),
    "no ipv4 source, and no question to a DHCP server": lambda me, to: udp4(me.mac, to.mac, IPv4Address(0), to.ipv4),
    "arp sender address": lambda me, to: arp(me.mac, me.mac, OTHER4, to.ipv4),
    "arp sender mac": lambda me, to: arp(me.mac, OTHER_MAC, me.ipv4, to.ipv4),
    "arp answer of another's address": lambda me, to: arp(me.mac, me.mac, OTHER4, to.ipv4, answer=True),
    "advertisement of another's address": lambda me, to: nd(136, me.mac, me.ipv6, to.ipv6, of=OTHER6, said=me.mac),
    "advertisement with another's mac": lambda me, to: nd(136, me.mac, me.ipv6, to.ipv6, of=me.ipv6, said=OTHER_MAC),
    "solicitation with another's mac": lambda me, to: nd(135, me.mac, me.ipv6, to.ipv6, of=to.ipv6, said=OTHER_MAC),
    "solicitation from another's address": lambda me, to: nd(135, me.mac, OTHER6, to.ipv6, of=to.ipv6, said=me.mac),
    "claim of another's address": lambda me, to: nd(135, me.mac, IPv6Address(0), ALL_NODES, of=OTHER6, said=None),
    "router advertisement": lambda me, to: icmpv6(me.mac, BROADCAST, me.ipv6, ALL_NODES, kind=134, body=bytes(12)),
    "redirect": lambda me, to: icmpv6(me.mac, to.mac, me.ipv6, to.ipv6, kind=137, body=bytes(36)),
    "dhcp answer": lambda me, to: dhcp_answer(me.mac, to.mac, me.ipv4, to.ipv4),
    "dhcpv6 answer": lambda me, to: udp6(me.mac, to.mac, me.ipv6, to.ipv6, ports=(547, 546)),
    "a tagged frame": lambda me, to: ethernet(me.mac, to.mac, VLAN, struct.pack("!HH", 5, IPV4) + bytes(40)),
    "what is neither IP nor ARP": lambda me, to: ethernet(me.mac, to.mac, LOCAL, bytes(46)),
}  # fmt: skip
NEEDED: dict[str, Make] = {
    "ipv4": lambda me, to: udp4(me.mac, to.mac, me.ipv4, to.ipv4),
    "ipv6": lambda me, to: udp6(me.mac, to.mac, me.ipv6, to.ipv6),
    "arp question": lambda me, to: arp(me.mac, me.mac, me.ipv4, to.ipv4),
    "arp probe": lambda me, to: arp(me.mac, me.mac, IPv4Address(0), me.ipv4),
    "announcement after a migration": lambda me, to: ethernet(me.mac, BROADCAST, RARP, bytes(46)),
    "solicitation": lambda me, to: nd(135, me.mac, me.ipv6, to.ipv6, of=to.ipv6, said=me.mac),
    "advertisement": lambda me, to: nd(136, me.mac, me.ipv6, to.ipv6, of=me.ipv6, said=me.mac),
    "claim of its own address": lambda me, to: nd(135, me.mac, IPv6Address(0), ALL_NODES, of=me.ipv6, said=None),
    "dhcp question": lambda me, to: dhcp_question(me.mac),
    "dhcpv6 question": lambda me, to: udp6(me.mac, to.mac, me.ipv6, to.ipv6, ports=(546, 547)),
}


async def test_spoofed_frames_do_not_leave_and_needed_ones_do(site: Site, filter_: Filter) -> None:
    """With no group, and with a group that lets out everything."""
    one, two, _ = site.machines
    for groups in ([], ["a"]):
        await filter_.apply(nic(one, groups))
        for name, make in NEEDED.items():
            assert _passes(one, two, make(one, two)), (groups, name)
        for name, make in SPOOFED.items():
            assert not _passes(one, two, make(one, two)), (groups, name)


async def test_a_nic_that_may_send_nothing_still_gets_its_address(site: Site, filter_: Filter) -> None:
    """ARP, neighbour discovery and the questions of a DHCP client pass any policy; data does not."""
    one, two, _ = site.machines
    await filter_.apply(rules("a"), nic(one, ["a"], egressPolicy="drop"))
    for name, make in NEEDED.items():
        assert _passes(one, two, make(one, two)) == (name not in {"ipv4", "ipv6"}), name


async def test_answers_of_servers_reach_a_nic_that_may_receive_nothing(site: Site, filter_: Filter) -> None:
    one, _, three = site.machines
    await filter_.apply(rules("a"), nic(one, ["a"]))
    needed = ("arp question", "solicitation", "advertisement")
    for name in ("dhcp answer", "dhcpv6 answer", "router advertisement", *needed):
        make = SPOOFED.get(name) or NEEDED[name]
        assert _passes(three, one, make(three, one)), name
    for name in ("ipv4", "ipv6", "dhcp question", "what is neither IP nor ARP"):
        make = SPOOFED.get(name) or NEEDED[name]
        assert not _passes(three, one, make(three, one)), name


async def test_without_anti_spoofing_all_of_it_leaves(site: Site, filter_: Filter) -> None:
    one, two, _ = site.machines
    await filter_.apply(nic(one, antiSpoofing=False))
    for name, make in {**SPOOFED, **NEEDED}.items():
        if name != "a tagged frame":  # the receiver's kernel may take the tag off
            assert _passes(one, two, make(one, two)), name


async def test_nobody_learns_a_spoofed_mac(site: Site, filter_: Filter) -> None:
    """The bridge would send the true owner's frames to whoever used its MAC last."""
    one, two, three = site.machines
    await filter_.apply(nic(one))
    assert _passes(two, three, udp4(two.mac, three.mac, two.ipv4, three.ipv4))
    assert not _passes(one, three, udp4(two.mac, three.mac, one.ipv4, three.ipv4))
    assert _passes(three, two, udp4(three.mac, two.mac, three.ipv4, two.ipv4))


def _passes(source: Machine, target: Machine, frame: bytes) -> bool:
    """A frame that nothing objects to follows the one in question: that one has arrived by then, or was dropped."""
    tail = ethernet(source.mac, BROADCAST, RARP, b"the last one".ljust(46))
    with target.raw() as receiver, source.raw() as sender:
        receiver.settimeout(5)
        sender.send(frame)
        sender.send(tail)
        with contextlib.suppress(TimeoutError):
            while (received := receiver.recv(2000)) != frame:
                if received == tail:
                    receiver.settimeout(0.02)  # two processors may have carried the two
            return True
    return False
