"""Programs in VMs that use what the network offers: a DHCP client, servers, a connection that stays open."""

import asyncio
import re
import shlex
from dataclasses import dataclass
from itertools import pairwise

from lab import Vm

ANSWER_SECONDS = 5.0  # for what must be answered; it comes at once, but for a machine that is busy
SILENCE_SECONDS = 1.0  # for what must not
_ANSWER = re.compile(r"^\[([\d.]+)\] \d+ bytes from ", re.MULTILINE)
# Sets what it got, as a distribution's script would; a client that understands option 121 ignores option 3.
_BOUND = """#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr replace "$ip/$mask" dev eth0
[ -z "$mtu" ] || ip link set eth0 mtu "$mtu"
set -- $staticroutes
while [ $# -ge 2 ]; do
    case "$2" in 0.0.0.0) ;; *) ip route replace "$1" via "$2" ;; esac
    shift 2
done
[ -n "$staticroutes" ] || [ -z "$router" ] || ip route replace default via "$router"
env > {got}
"""
# Tells each client the address that it comes from, then whatever it says.
_SERVER = """
import socket, threading
def talk(conn, address):
    conn.sendall(address[0].encode() + b"\\n")
    while said := conn.recv(100):
        conn.sendall(said)
def serve(sock):
    while True:
        threading.Thread(target=talk, args=sock.accept(), daemon=True).start()
socks = [socket.create_server(("", int(port))) for port in "{ports}".split()]
for sock in socks:
    threading.Thread(target=serve, args=(sock,)).start()
"""


async def run(vm: Vm, command: str, *, check: bool = True) -> str:
    """Run a shell command in a VM; return what it printed."""
    return (await asyncio.to_thread(vm.run, command, check=check)).stdout.strip()


async def dhcp(vm: Vm, *, tries: int = 5) -> dict[str, str]:
    """Ask for an address with udhcpc, and set what it got; return that, by its names; empty if there was no answer."""
    script, got = f"/run/{vm.netns}.script", f"/run/{vm.netns}.got"
    write = f"rm -f {got}; printf %s {shlex.quote(_BOUND.format(got=got))} > {script}; chmod +x {script}"
    options = "-O 121 -O mtu -O domain -O hostname -O router -O dns -O subnet"
    ask = f"udhcpc -i eth0 -f -n -q -t {tries} -T 1 -s {script} {options} > /dev/null 2>&1"
    said = await run(vm, f"{write}; {ask}; cat {got} 2> /dev/null", check=False)
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


async def serve(vm: Vm, *ports: int) -> None:
    """Start a server, which tells whoever connects to one of these ports the address that it sees."""
    program = _SERVER.format(ports=" ".join(map(str, ports)))
    listening = " && ".join(f"ss -Hltn sport = :{port} | grep -q ." for port in ports)
    start = f"python3 -SIE -c {shlex.quote(program)} > /dev/null 2>&1 &"
    await run(vm, f"{start} timeout 20 sh -c {shlex.quote(f'until {listening}; do sleep 0.05; done')}")


async def ask(vm: Vm, address: str, port: int, *, seconds: float = ANSWER_SECONDS) -> str:
    """Return the address that a server saw the VM come from; empty if there was no answer."""
    return await run(vm, f"timeout {seconds} busybox nc {address} {port} < /dev/null", check=False)


@dataclass(frozen=True)
class Connection:
    """A TCP connection that stays open."""

    vm: Vm
    files: str

    @classmethod
    async def open(cls, vm: Vm, address: str, port: int) -> "Connection":
        """Connect to such a server."""
        files = f"/run/{vm.netns}.tcp"
        feed = f"sleep 600 > {files}.in & exec busybox nc {address} {port} < {files}.in > {files}.out"
        await run(vm, f"rm -f {files}.*; mkfifo {files}.in; touch {files}.out; ({feed}) > /dev/null 2>&1 &")
        return cls(vm, files)

    async def answers(self, word: str, *, seconds: float = ANSWER_SECONDS) -> bool:
        """Say a new word, and tell whether it comes back."""
        talk = f"echo {word} > {self.files}.in; until grep -q {word} {self.files}.out; do sleep 0.05; done"
        done = await asyncio.to_thread(self.vm.run, f"timeout {seconds} sh -c {shlex.quote(talk)}", check=False)
        return done.code == 0


@dataclass(frozen=True)
class Pings:
    """Pings that go on, five in a second."""

    vm: Vm
    log: str
    pid: int

    @classmethod
    async def start(cls, vm: Vm, address: str) -> "Pings":
        """Begin to ping."""
        log = f"/run/{vm.netns}.pings"
        return cls(vm, log, int(await run(vm, f"ping -n -D -i 0.2 {address} > {log} 2>&1 & echo $!")))

    async def answered(self) -> int:
        """How many were answered so far."""
        return len(_ANSWER.findall(await run(self.vm, f"cat {self.log}")))

    async def stop(self) -> str:
        """End; return what ping printed."""
        return await run(self.vm, f"kill -INT {self.pid}; cat {self.log}")


def longest_silence(printed: str) -> float:
    """The longest time between two answers, in seconds, of what `ping -D` has printed."""
    times = [float(found) for found in _ANSWER.findall(printed)]
    return max((later - earlier for earlier, later in pairwise(times)), default=0.0)
