"""Looking at a space, and doing what its plan says: `ip` with JSON, in few processes."""

import asyncio
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import UUID

from viaduct_agent.links.marks import parse_service_mark
from viaduct_agent.services.programs import NETNS_DIR, run
from viaduct_agent.services.space import MAIN, Route, Rule, Space, Version
from viaduct_agent.services.spaceplan import Have, Inner, Outer, Step
from viaduct_agent.services.tools import ServiceTools
from viaduct_common.errors import BackendFailed

_FAILED_LINE = re.compile(r"^Command failed -:(\d+)$", re.MULTILINE)
_TABLES = {"main": MAIN, "local": 255, "default": 253}
_KERNELS = (0, 32767)  # priorities of rules that are there whatever we want: the tables "local" and "default"


def namespace_exists(name: str) -> bool:
    return Path(NETNS_DIR, name).exists()


def namespaces(prefix: str) -> dict[UUID, str]:
    """The names under /run/netns that are `prefix` and a uuid."""
    found = {}
    try:
        names = [path.name for path in Path(NETNS_DIR).iterdir() if path.name.startswith(prefix)]
    except FileNotFoundError:  # no namespace was ever made on this host
        return {}
    for name in names:
        try:
            found[UUID(name.removeprefix(prefix))] = name
        except ValueError:
            continue  # somebody else's
    return found


async def look(want: Space, tools: ServiceTools) -> Have:
    """What is there of a space.

    Raises:
        BackendFailed: a program failed.
    """
    on_host = asyncio.gather(_outers(want, tools), _bridges(want, tools))
    if not namespace_exists(want.name):
        outers, bridges = await on_host
        return Have(outers=outers, bridges=bridges)
    batch = "address show\nroute show table all\nrule show\n"
    (outers, bridges), (inside, rules6, sysctls) = await asyncio.gather(
        on_host,
        asyncio.gather(
            _ip(want.name, batch),
            _ip(want.name, "rule show\n", "-6"),
            _sysctls(want),
        ),
    )
    devices, routes, rules = inside
    return Have(
        namespace=True,
        outers=outers,
        inners=dict(_inners(devices)),
        routes=frozenset(route for route in map(_route, routes) if route is not None),
        rules=frozenset([*_rules(rules, 4), *_rules(rules6[0], 6)]),
        sysctls=sysctls,
        bridges=bridges,
    )


async def do(steps: Sequence[Step], netns: str, tools: ServiceTools) -> None:
    """Do what a plan says, in its order, those next to each other of one place in one program.

    Raises:
        BackendFailed: one of them was refused; those before it are done.
    """
    for place, group in groupby(steps, key=lambda step: step.place):
        lines = [step.words for step in group]
        match place:
            case "host":
                for line in lines:
                    await run(_with_database(shlex.split(line), tools), netns=tools.netns)
            case "host ip":
                await _batch(lines, tools.netns)
            case "sysctl":
                await run(["sysctl", "-q", "-w", *lines], netns=netns)
            case "space ip -4":
                await _batch(lines, netns)
            case "space ip -6":
                await _batch(lines, netns, "-6")


async def remove_space(uuid: UUID, name: str, tools: ServiceTools, *, openvswitch: Sequence[str] = ()) -> list[str]:
    """Take a space away by its mark, with all that is in it; `openvswitch` are its devices there. What was done."""
    done = []
    for device in openvswitch:
        await run(_with_database(["ovs-vsctl", "--if-exists", "del-port", device], tools), netns=tools.netns)
        done.append(f"ovs-vsctl --if-exists del-port {device}")
    (links,) = await _ip(tools.netns, "link show type veth\n")
    # Those first: with its namespace a pair goes when the kernel finds the time.
    legs = [link["ifname"] for link in links if (parse_service_mark(link.get("ifalias")) or (None,))[0] == uuid]
    if legs:
        lines = "".join(f"link del dev {leg}\n" for leg in legs)
        await run(["ip", "-force", "-batch", "-"], netns=tools.netns, stdin=lines, ok=None)
        done += [f"ip link del dev {leg}" for leg in legs]
    if namespace_exists(name):
        await run(["ip", "netns", "del", name])
        done.append(f"ip netns del {name}")
    return done


async def _batch(lines: Sequence[str], netns: str | None, *options: str) -> None:
    """Commands of `ip`; a refusal names the one that was refused."""
    argv = ["ip", *options, "-batch", "-"]
    ran = await run(argv, netns=netns, stdin="\n".join(lines) + "\n", ok=None)
    if ran.code == 0:
        return
    number = _FAILED_LINE.search(ran.stderr)
    step = f"ip {lines[int(number[1]) - 1]}" if number else " ".join(argv)
    said = ran.stderr.splitlines()[0] if ran.stderr else f"status {ran.code}"
    raise BackendFailed(f"{step}: {said}", step=step, netns=netns)


def _with_database(argv: list[str], tools: ServiceTools) -> list[str]:
    if argv[0] == "ovs-vsctl" and tools.ovsdb is not None:
        return [argv[0], f"--db={tools.ovsdb}", *argv[1:]]
    return argv


async def _ip(netns: str | None, batch: str, *options: str) -> list[list[dict[str, Any]]]:
    """The answers to some questions; of a device that is not there, none."""
    ran = await run(["ip", *options, "-d", "-j", "-force", "-batch", "-"], netns=netns, stdin=batch, ok={0, 1})
    return list(_documents(ran.stdout))


def _documents(text: str) -> Iterator[list[dict[str, Any]]]:
    decoder = json.JSONDecoder()
    position = 0
    while (position := _next(text, position)) < len(text):
        document, position = decoder.raw_decode(text, position)
        yield [entry for entry in document if entry]


def _next(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


async def _outers(want: Space, tools: ServiceTools) -> dict[str, Outer]:
    if not want.legs:
        return {}
    found = await _ip(tools.netns, "".join(f"link show dev {leg.outer}\n" for leg in want.legs))
    by_name = {link["ifname"]: link for links in found for link in links}
    outers = {}
    for leg in want.legs:
        link = by_name.get(leg.outer)
        if link is None:
            continue
        bridge, vlan, strays = link.get("master"), None, frozenset[str]()
        if leg.openvswitch:
            bridge, vlan = await _port(leg.outer, tools)
        elif leg.vlan is not None and bridge is not None:
            vlan, strays = await _vlans(leg.outer, tools)
        outers[leg.outer] = Outer(
            link["ifindex"], link["mtu"], "UP" in link["flags"], link.get("ifalias"), bridge, vlan, strays
        )
    return outers


async def _bridges(want: Space, tools: ServiceTools) -> frozenset[str]:
    plain = {leg.bridge for leg in want.legs if not leg.openvswitch}
    switched = {leg.bridge for leg in want.legs if leg.openvswitch}
    links = await _ip(tools.netns, "".join(f"link show dev {name}\n" for name in sorted(plain))) if plain else []
    found = {link["ifname"] for entries in links for link in entries}
    for name in switched:
        ran = await run(_with_database(["ovs-vsctl", "br-exists", name], tools), netns=tools.netns, ok={0, 2})
        found |= {name} if ran.code == 0 else set()
    return frozenset(found)


async def _port(device: str, tools: ServiceTools) -> tuple[str | None, int | None]:
    argv = ["ovs-vsctl", "port-to-br", device, "--", "get", "port", device, "tag"]
    ran = await run(_with_database(argv, tools), netns=tools.netns, ok=None)
    words = ran.stdout.split()
    if ran.code != 0 or len(words) != 2:
        return None, None
    return words[0], int(words[1]) if words[1].isdigit() else None


async def _vlans(device: str, tools: ServiceTools) -> tuple[int | None, frozenset[str]]:
    """That which a port's frames get, and all others."""
    ran = await run(["bridge", "-j", "vlan", "show", "dev", device], netns=tools.netns, ok=None)
    try:
        entries = [entry for port in json.loads(ran.stdout) for entry in port.get("vlans", ())]
    except ValueError:  # it has none, and says so with nothing
        return None, frozenset()
    own, strays = None, set()
    for entry in entries:
        if "vlanEnd" not in entry and set(entry.get("flags", ())) >= {"PVID", "Egress Untagged"}:
            own = int(entry["vlan"])
        else:
            strays.add(f"{entry['vlan']}-{entry['vlanEnd']}" if "vlanEnd" in entry else str(entry["vlan"]))
    return own, frozenset(strays)


async def _sysctls(want: Space) -> dict[str, str]:
    names = [name for name, _ in want.sysctls]
    if not names:
        return {}
    ran = await run(["sysctl", "-n", *names], netns=want.name)
    return dict(zip(names, ran.stdout.splitlines(), strict=True))


def _inners(links: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Inner]]:
    for link in links:
        is_veth = link.get("linkinfo", {}).get("info_kind") == "veth"
        addresses = frozenset(
            f"{info['local']}/{info['prefixlen']}"
            for info in link.get("addr_info", ())
            if info.get("scope") == "global" and "local" in info
        )
        peer = link.get("link_index", 0) if is_veth else None
        yield link["ifname"], Inner(peer, link.get("address", ""), link["mtu"], "UP" in link["flags"], addresses)


def _route(raw: Mapping[str, Any]) -> Route | None:
    """Those that are ours: nobody else makes static ones here."""
    if raw.get("protocol") != "static":
        return None
    target, via = str(raw["dst"]), raw.get("gateway")
    version: Version = 6 if ":" in f"{target}{via or ''}" else 4
    return Route(version, target, str(raw.get("dev", "")), via, _table(str(raw.get("table", "main"))))


def _rules(raw: Sequence[Mapping[str, Any]], version: Version) -> Iterator[Rule]:
    for rule in raw:
        if rule["priority"] in _KERNELS:
            continue
        mark = int(str(rule["fwmark"]), 0) if "fwmark" in rule else None
        table = _table(str(rule.get("table", "main")))
        yield Rule(version, rule["priority"], table, _end(rule, "src"), _end(rule, "dst"), mark)


def _end(rule: Mapping[str, Any], key: str) -> str | None:
    address = rule.get(key, "all")
    length = rule.get(f"{key}len")
    return None if address == "all" else str(address) if length is None else f"{address}/{length}"


def _table(name: str) -> int:
    return _TABLES[name] if name in _TABLES else int(name)
