"""A host's bridge and machines at it, on the running kernel: namespaces, and sockets that live in them."""

import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

T = TypeVar("T")
BRIDGE = "br0"
_CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Machine:
    """A namespace with one NIC `eth0`, whose other end `tap` is a port of the host's bridge."""

    netns: str
    tap: str
    mac: str
    ipv4: IPv4Address
    ipv6: IPv6Address

    def open(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket stays in the namespace that it is made in, whoever uses it."""
        return inside(self.netns, lambda: socket.socket(family, kind, protocol))

    def raw(self, protocol: int = 0x0003) -> socket.socket:
        """Frames from and to eth0."""
        sock = self.open(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
        sock.bind(("eth0", protocol))
        return sock

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run("ip", "netns", "exec", self.netns, *words, check=check)


def inside(netns: str, work: Callable[[], T]) -> T:
    """Do something in a namespace, in a thread of its own."""
    found: list[T] = []
    failed: list[BaseException] = []

    def enter() -> None:
        try:
            with Path(f"/run/netns/{netns}").open() as file:
                setns(file.fileno())
            found.append(work())
        except BaseException as exc:
            failed.append(exc)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


def setns(descriptor: int) -> None:
    """Python has os.setns from 3.12 on."""
    import ctypes  # noqa: PLC0415

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def run(*words: str, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, check=check, capture_output=True, text=True, input=stdin, timeout=60)


class Site:
    """One host with its bridge, which has addresses of its own; `close` takes everything away."""

    def __init__(self) -> None:
        self.prefix = f"sg{uuid4().hex[:6]}"
        self.host = f"{self.prefix}-host"
        self.machines: list[Machine] = []
        self.own = Machine(self.host, "", "", IPv4Address("10.9.0.254"), IPv6Address("fd09::fe"))
        self._namespaces = [self.host]
        run("ip", "netns", "add", self.host)
        self.add_bridge(BRIDGE)
        self.ip(f"addr add {self.own.ipv4}/24 dev {BRIDGE}", f"addr add {self.own.ipv6}/64 dev {BRIDGE} nodad")

    def add_bridge(self, name: str) -> None:
        self.ip("link set lo up", f"link add name {name} type bridge forward_delay 0 mcast_snooping 0",
                f"link set {name} up")  # fmt: skip

    def ip(self, *commands: str, netns: str | None = None) -> None:
        run("ip", "-n", netns or self.host, "-batch", "-", stdin="\n".join(commands) + "\n")

    def bridge_mac(self, name: str = BRIDGE) -> str:
        shown = run("ip", "-n", self.host, "-j", "link", "show", "dev", name).stdout
        return str(json.loads(shown)[0]["address"])

    def add_machine(self, number: int, bridge: str = BRIDGE, *, tap: str = "", ip: int = 0) -> Machine:
        """Number 1 to 99; the same addresses may be given to several, on different bridges."""
        mac = f"02:00:00:00:00:{number:02x}"
        machine = Machine(
            f"{self.prefix}-{number}", tap or f"tap{number}", mac,
            IPv4Address(f"10.9.0.{ip or number}"), IPv6Address(f"fd09::{ip or number:x}"),
        )  # fmt: skip
        run("ip", "netns", "add", machine.netns)
        self._namespaces.append(machine.netns)
        self.ip(f"link add {machine.tap} type veth peer name eth0 address {mac} netns {machine.netns}",
                f"link set {machine.tap} master {bridge} up")  # fmt: skip
        self.ip("link set lo up", "link set eth0 up", f"addr add {machine.ipv4}/24 dev eth0",
                f"addr add {machine.ipv6}/64 dev eth0 nodad", netns=machine.netns)  # fmt: skip
        self.machines.append(machine)
        return machine

    def know_each_other(self, machines: Sequence[Machine]) -> None:
        """Permanent neighbours: no test waits for ARP that it is not about."""
        everybody = [(self.own, BRIDGE, self.bridge_mac()), *((one, "eth0", one.mac) for one in machines)]
        for one, device, _ in everybody:
            lines = [
                f"neigh replace {ip} lladdr {mac} dev {device} nud permanent"
                for other, _, mac in everybody if other is not one for ip in (other.ipv4, other.ipv6)
            ]  # fmt: skip
            self.ip(*lines, netns=one.netns)

    def nft(self) -> str:
        return run("ip", "netns", "exec", self.host, "nft", "list", "ruleset").stdout

    def forget_connections(self) -> None:
        run("ip", "netns", "exec", self.host, "conntrack", "-F")

    def close(self) -> None:
        for netns in reversed(self._namespaces):
            run("ip", "netns", "del", netns, check=False)
