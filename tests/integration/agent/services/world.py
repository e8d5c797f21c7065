"""What a network service lives among: a host with bridges, VMs on one, the public world on the other.

The machines are namespaces, their programs real clients and servers that know nothing of us.
"""

import json
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

from lab.machine import inside_netns

WAIT_SECONDS = 15.0
INDEX = 1 << 29  # see `WantedLeg.index`: packets are not lost while the kernel finds out that a cable is plugged in
# What udhcpc and dhclient call: they write down what they got, and set it.
GOT = """#!/bin/sh
[ -n "$ip$new_ip6_address" ] || exit 0
env > {directory}/got.new
mv {directory}/got.new {directory}/got
if [ -n "$ip" ]; then
    ip address replace "$ip/$mask" dev "$interface"
    [ -z "$router" ] || ip route replace default via "$router" dev "$interface"
fi
if [ -n "$new_ip6_address" ]; then
    ip address replace "$new_ip6_address/64" dev "$interface" nodad
fi
"""


def wait_until(fact: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS) -> Any:
    """Poll a fact that no event announces; what it was when it was true."""
    deadline = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.02)
    return found


@dataclass
class Machine:
    """A namespace with a name of its own and devices; `directory` is for what its programs write."""

    name: str
    directory: Path
    programs: list[subprocess.Popen[str]] = field(default_factory=list)
    servers: list["Server"] = field(default_factory=list)

    def run(self, command: str | Sequence[str], *, check: bool = True, seconds: float = 20) -> str:
        argv = shlex.split(command) if isinstance(command, str) else list(command)
        done = subprocess.run(self._inside(argv), capture_output=True, text=True, timeout=seconds, check=False)
        assert not check or done.returncode == 0, f"{self.name}: {shlex.join(argv)}: {done.stdout}{done.stderr}"
        return done.stdout

    def succeeds(self, command: str, seconds: float = 20) -> bool:
        done = subprocess.run(self._inside(shlex.split(command)), capture_output=True, timeout=seconds, check=False)
        return done.returncode == 0

    def start(self, command: str) -> subprocess.Popen[str]:
        """A program that runs until the machine is taken away."""
        output = (self.directory / f"out{len(self.programs)}").open("w")
        program = subprocess.Popen(self._inside(shlex.split(command)), stdout=output, stderr=output, text=True)
        output.close()
        self.programs.append(program)
        return program

    def output(self, number: int = -1) -> str:
        return (self.directory / f"out{range(len(self.programs))[number]}").read_text()

    def ip(self, *commands: str) -> None:
        for command in commands:
            self.run(f"ip {command}")

    def json(self, command: str) -> Any:
        return json.loads(self.run(f"ip -j {command}"))

    def pings(self, address: str, *, count: int = 1) -> bool:
        return self.succeeds(f"ping -n -q -c {count} -i 0.2 -W 1 {address}")

    def dhcp(self, *options: str, tries: int = 10) -> dict[str, str]:
        """What `udhcpc` gets, and has set; empty if it got nothing."""
        (self.directory / "got").unlink(missing_ok=True)
        script = self.directory / "got.sh"
        script.write_text(GOT.format(directory=self.directory))
        script.chmod(0o755)
        # 121, 249, 26 and the names are not among what it asks for by itself.
        wanted = "-O 121 -O 249 -O mtu -O domain -O hostname -O router -O dns"
        self.succeeds(f"udhcpc -i eth0 -f -n -q -t {tries} -T 1 -s {script} {wanted} {shlex.join(options)}")
        return self.got()

    def dhcp6(self) -> dict[str, str]:
        """What ISC's client gets by DHCPv6, and has set."""
        (self.directory / "got").unlink(missing_ok=True)
        script = self.directory / "got.sh"
        script.write_text(GOT.format(directory=self.directory))
        script.chmod(0o755)
        files = f"-lf {self.directory}/leases6 -pf {self.directory}/dhclient6.pid"
        self.succeeds(f"timeout 12 dhclient -6 -1 -d -sf {script} {files} eth0 -cf /dev/null")
        return self.got()

    def got(self) -> dict[str, str]:
        try:
            lines = (self.directory / "got").read_text().splitlines()
        except FileNotFoundError:
            return {}
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def dig(self, *words: str) -> list[str]:
        lines = self.run(["dig", "+short", "+time=1", "+tries=2", *words], check=False).splitlines()
        return [line for line in lines if not line.startswith(";")]

    def serve(self, *ports: int, udp: bool = False) -> None:
        """Tell each client who we are and the address that it comes from, and then whatever it says (TCP)."""
        for port in ports:
            self.servers.append(Server(self.name, port, udp=udp))

    def ask(self, address: str, port: int, *, udp: bool = False, seconds: float = 8) -> str:
        """`<server> <the address that it saw>`, empty if there was no answer."""
        try:
            with self.connect(address, port, udp=udp, seconds=seconds) as sock:
                if udp:
                    sock.send(b"?")
                return sock.recv(100).decode()
        except OSError:
            return ""

    def hears_nothing(self, address: str, port: int) -> bool:
        return not self.ask(address, port, seconds=1.2)  # time for a second SYN

    def connect(self, address: str, port: int, *, udp: bool = False, seconds: float = 8) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with inside_netns(self.name):
            sock = socket.socket(family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
        sock.settimeout(seconds)
        try:
            sock.connect((address, port))
        except OSError:
            sock.close()
            raise
        return sock

    def close(self) -> None:
        for server in self.servers:
            server.close()
        for program in self.programs:
            if program.poll() is None:
                program.send_signal(signal.SIGKILL)
            program.wait()
        subprocess.run(["ip", "netns", "del", self.name], check=True)

    def _inside(self, argv: list[str]) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.name}", "--", *argv]


class Server:
    """A thread that answers on a port of a namespace."""

    def __init__(self, netns: str, port: int, *, udp: bool) -> None:
        self._name = netns
        with inside_netns(netns):
            self._sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
        self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._sock.bind(("::", port))
        self._connections: list[socket.socket] = []
        if not udp:
            self._sock.listen()
        self._thread = Thread(target=self._datagrams if udp else self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        for sock in [self._sock, *self._connections]:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _greeting(self, client: tuple[str, int]) -> bytes:
        return f"{self._name} {client[0].removeprefix('::ffff:')}".encode()

    def _datagrams(self) -> None:
        with suppress(OSError, ValueError):
            while True:
                _, client = self._sock.recvfrom(100)
                if not client:  # that is what `shutdown` looks like
                    return
                self._sock.sendto(self._greeting(client), client)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, client = self._sock.accept()
                self._connections.append(connection)
                Thread(target=self._converse, args=(connection, client), daemon=True).start()

    def _converse(self, connection: socket.socket, client: tuple[str, int]) -> None:
        with suppress(OSError):
            connection.sendall(self._greeting(client))
            while said := connection.recv(100):
                connection.sendall(said)


class World:
    """A host and the machines around it; all gone at the end, however it ended."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._machines = ExitStack()
        self.host = self.machine("host")

    def machine(self, name: str) -> Machine:
        full = f"vt-{name}-{uuid4().hex[:6]}"
        directory = self.directory / full
        directory.mkdir()
        directory.chmod(0o755)
        subprocess.run(["ip", "netns", "add", full], check=True)
        machine = Machine(full, directory)
        self._machines.callback(machine.close)
        machine.ip("link set lo up")
        return machine

    def bridge(self, name: str, on: Machine | None = None) -> None:
        host = on or self.host
        host.ip(f"link add name {name} type bridge forward_delay 0 stp_state 0", f"link set {name} up")

    def plug(self, machine: Machine, bridge: str, mac: str, port: str, on: Machine | None = None) -> None:
        """Give it `eth0`, whose other end is `port` of the bridge."""
        host = on or self.host
        host.ip(
            f"link add name {port} type veth peer name eth0 index {INDEX} address {mac} netns {machine.name}",
            f"link set {port} master {bridge} up",
        )
        machine.run(
            "sysctl -q -w net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0"
            " net.ipv6.conf.eth0.accept_dad=0"
        )
        machine.ip("link set eth0 up")

    def close(self) -> None:
        self._machines.close()


def leftovers(host: Machine, word: str) -> list[str]:
    """What is left anywhere that has the word in it: namespaces, processes, devices, tables of the host."""
    found = [f"namespace {name}" for name in os.listdir("/run/netns") if word in name]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if word in line:
            found.append(f"process {line}")
    found += [f"device {line}" for line in host.run("ip -o link").splitlines() if word in line]
    ruleset = host.run("nft list ruleset")
    return found + ([f"table {ruleset}"] if ruleset.strip() else [])
