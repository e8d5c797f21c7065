"""Forgetting connections whose rule is gone or new: an established one goes on as it began, whatever the rules say."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from viaduct_agent.services.programs import run
from viaduct_common.errors import BackendFailed

_FIRST_PORT = re.compile(r"\bdport=(\d+)")
_NONE = "0 flow entries"


@dataclass(frozen=True, slots=True)
class Translation:
    """What one rule of translation does. Two that differ in anything are two.

    With `private` alone: a public address, both ways. With `protocol`: some ports of it. Neither: what hides behind it.
    """

    version: Literal[4, 6]
    public: str
    private: str | None = None
    protocol: Literal["tcp", "udp"] | None = None
    start: int = 0
    end: int = 0
    detail: str = ""


async def forget(changed: Iterable[Translation], netns: str) -> list[str]:
    """Delete the connections of exactly these; what was done.

    Raises:
        BackendFailed: the kernel refused.
    """
    done = []
    for one in sorted(changed, key=repr):
        family = ["-f", f"ipv{one.version}"]
        if one.protocol is not None:
            selections = await _ports(one, netns)
        elif one.private is not None:
            selections = [["-d", one.public], ["-s", one.private, "-q", one.public]]
        else:
            selections = [["-q", one.public]]
        for selection in selections:
            argv = ["conntrack", "-D", *family, *selection]
            if await _delete(argv, netns):
                done.append(" ".join(argv))
    return done


async def _delete(argv: list[str], netns: str) -> bool:
    ran = await run(argv, netns=netns, ok={0, 1})
    if ran.code == 1 and _NONE not in ran.stderr:
        raise BackendFailed(f"conntrack: {ran.stderr.strip()}", step=" ".join(argv))
    return ran.code == 0


async def _ports(one: Translation, netns: str) -> list[list[str]]:
    """Of a range only those ports that have connections: conntrack selects one port or all."""
    base = ["-p", str(one.protocol), "-d", one.public]
    if one.start == one.end:
        return [[*base, "--dport", str(one.start)]]
    ran = await run(["conntrack", "-L", "-f", f"ipv{one.version}", *base], netns=netns)
    ports = {int(found[1]) for line in ran.stdout.splitlines() if (found := _FIRST_PORT.search(line))}
    return [[*base, "--dport", str(port)] for port in sorted(ports) if one.start <= port <= one.end]
