"""The agent's end: one HAProxy in a network namespace of its own, with a leg in the L3 network."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from viaduct_agent.links.marks import format_service_mark
from viaduct_agent.services.api import ServiceOnHost
from viaduct_agent.services.backend import SpaceBackend, parsed
from viaduct_agent.services.files import content_differences, make_directory, write_file
from viaduct_agent.services.layout import Layout
from viaduct_agent.services.nft import Table
from viaduct_agent.services.space import INSIDE, Route, Space, wanted_leg
from viaduct_agent.services.supervise import Program, Supervisor, load
from viaduct_common.messages.l2 import Difference
from viaduct_lb_haproxy.fields import KIND, HaproxySpec
from viaduct_lb_haproxy.rendering import render

PREFIX = "lb-"
PROGRAM = "haproxy"
_CONF, _PID = "haproxy.cfg", "haproxy.pid"
# What is not balanced has no business here; answers to what HAProxy asks of its servers come by way of conntrack.
_RULES = """\
chain input {{
    type filter hook input priority filter; policy drop;
    iifname "lo" accept
    ct state established,related accept
    meta l4proto {{ icmp, ipv6-icmp }} accept
{ports}}}
"""


class HaproxyBackend(SpaceBackend):
    """`SpaceBackend` brings apply, check, remove and found, written once for all that is a namespace with legs, rules
    and a program. What is left to say is of what it is made, as plain values. A service that is something else
    implements `viaduct_agent.services.api.ServiceBackend` itself."""

    kind: ClassVar[str] = KIND
    prefix: ClassVar[str] = PREFIX
    program: ClassVar[str] = PROGRAM

    def layout(self, want: ServiceOnHost) -> Layout:
        spec = parsed(HaproxySpec, want)  # validated here, too: the manager may be another version
        leg = wanted_leg(want.uuid, spec.leg, INSIDE)
        routes = frozenset(Route(via.version, "default", leg.inner, str(via)) for via in spec.leg.gateways)
        space = Space(
            uuid=want.uuid,
            name=f"{PREFIX}{want.uuid}",
            mark=format_service_mark(want.uuid, want.generation),
            legs=(leg,),
            routes=routes,
            sysctls=(("net.ipv6.conf.default.accept_dad", "0"), ("net.ipv6.conf.default.accept_ra", "0")),
        )
        ports = sorted({listener.port for listener in spec.listeners})
        admitted = f"    tcp dport {{ {', '.join(map(str, ports))} }} accept\n" if ports else ""
        rules = Table("inet", "viaduct_lb", _RULES.format(ports=admitted))
        return Layout(space=space, rules=rules, serving=Haproxy(spec) if spec.listeners else None)


@dataclass(frozen=True, slots=True)
class Haproxy:
    """`viaduct_agent.services.layout.ServingProgram`. Master and worker (`-W`): on SIGHUP the master starts a new
    worker with the new configuration, and the old one ends with its last connection (HAProxy's management guide, §3
    and §4)."""

    spec: HaproxySpec

    async def serve(self, directory: Path, netns: str, supervisor: Supervisor, *, anew: bool) -> list[str]:
        make_directory(directory)
        if anew:
            await supervisor.stop(directory)
        wanted = _program(directory, netns)
        changed = write_file(directory / _CONF, render(self.spec))
        command = await supervisor.ensure(directory, wanted)
        if command is not None:
            return [command]
        reloaded = changed and supervisor.reload(directory)
        return [f"kill -HUP $(cat {wanted.pid_file}) # {_CONF}"] if reloaded else []

    def differences(self, directory: Path, netns: str) -> list[Difference]:
        found = content_differences(directory, {_CONF: render(self.spec)})
        known, process = load(directory)
        if process is None or not process.alive or known != _program(directory, netns):
            found.append(Difference(device=PROGRAM, attribute="running", desired=True, actual=False))
        return found


def _program(directory: Path, netns: str) -> Program:
    argv = (PROGRAM, "-W", "-D", "-f", str(directory / _CONF), "-p", str(directory / _PID))
    return Program(argv, netns, str(directory / _PID))
