"""A plugin for the tests: a kind of service that is one end of a veth pair with the service's mark, up, of an MTU."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from viaduct_agent.links.marks import format_service_mark, parse_service_mark
from viaduct_agent.services.api import CheckedService, ServiceOnHost
from viaduct_agent.services.tools import ServiceTools
from viaduct_common.errors import BackendFailed, PreconditionFailed, ViaductError
from viaduct_common.messages.l2 import Difference


class LegBackend:
    """`spec`: `mtu`, and the `bridge` that it is a port of, or none."""

    kind: ClassVar[str] = "leg"

    def __init__(self, tools: ServiceTools) -> None:
        self._tools = tools

    async def unavailable(self) -> ViaductError | None:
        return None

    async def apply(self, want: ServiceOnHost) -> tuple[str, ...]:
        name, links = _name(want.uuid), await _links()
        bridge = want.spec.get("bridge")
        if bridge is not None and bridge not in links:
            raise PreconditionFailed(f"there is no bridge {bridge}", device=bridge)
        done = []
        if name not in links:
            done.append(f"link add {name} type veth peer name {name}p")
        have = links.get(name, {})
        mark = format_service_mark(want.uuid, want.generation)
        if have.get("ifalias") != mark:
            done.append(f"link set {name} alias {mark}")
        if have.get("mtu") != want.spec["mtu"] or "UP" not in have.get("flags", []):
            done.append(f"link set {name} up mtu {want.spec['mtu']}")
        if bridge is not None and have.get("master") != bridge:
            done.append(f"link set {name} master {bridge}")
        for command in done:
            await _ip(command)
        return tuple(done)

    async def check(self, want: ServiceOnHost) -> CheckedService:
        have = (await _links()).get(_name(want.uuid))
        if have is None:
            return CheckedService(present=False)
        if have["mtu"] == want.spec["mtu"]:
            return CheckedService(present=True)
        found = Difference(device=have["ifname"], attribute="mtu", desired=want.spec["mtu"], actual=have["mtu"])
        return CheckedService(True, (found,), ("link set",))

    async def remove(self, uuid: UUID) -> tuple[str, ...]:
        if uuid not in await self.found():
            return ()
        await _ip(f"link del {_name(uuid)}")
        return (f"link del {_name(uuid)}",)

    async def found(self) -> Mapping[UUID, int]:
        marks = [parse_service_mark(link.get("ifalias")) for link in (await _links()).values()]
        return dict(mark for mark in marks if mark is not None)

    async def aclose(self) -> None:
        """Nothing is open."""


def _name(uuid: UUID) -> str:
    return f"leg{uuid.hex[:8]}"


async def _links() -> dict[str, dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(await _ip("-j link show"))
    return {link["ifname"]: link for link in found}


async def _ip(arguments: str) -> str:
    program = await asyncio.create_subprocess_exec(
        "ip", *arguments.split(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await program.communicate()
    if program.returncode:
        raise BackendFailed(err.decode(), step=f"ip {arguments}")
    return out.decode()
