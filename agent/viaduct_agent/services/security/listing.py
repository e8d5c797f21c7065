"""What `nft -j list table` says, as a `Ruleset`."""

import json
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from uuid import UUID

from viaduct_agent.links.marks import parse_mark
from viaduct_agent.services.security.compiling import BRIDGE, ZONES, device_key, marks_set
from viaduct_agent.services.security.ruleset import Chain, Elements, Key, Line, Ruleset


def parse_listing(texts: Mapping[str, str]) -> Ruleset:
    """The listings of our tables by their families."""
    chains: dict[Key, Chain] = {}
    rules: dict[Key, list[Line]] = {}
    sets: dict[Key, Elements] = {}
    for family, text in texts.items():
        for item in json.loads(text)["nftables"]:
            if "chain" in item:
                chains[Key(family, item["chain"]["name"])] = Chain((), _hook(item["chain"]))
            elif "rule" in item:
                key = Key(family, item["rule"]["chain"])
                rules.setdefault(key, []).append(Line(item["rule"].get("comment", "")))
            elif "set" in item or "map" in item:
                found = item.get("set") or item["map"]
                named = found["name"] == ZONES or found["type"] == "ifname"
                elements = dict(_element(raw, is_device=named) for raw in found.get("elem", ()))
                sets[Key(family, found["name"])] = Elements(elements)
    filled = {key: Chain(tuple(rules.get(key, ())), chain.hook) for key, chain in chains.items()}
    return Ruleset(filled, sets, frozenset(texts))


def marked(kind: str, have: Ruleset) -> dict[UUID, int]:
    """The instances of one kind, with their generations."""
    marks = have.sets.get(Key(BRIDGE, marks_set(kind)), Elements({}))
    return dict(filter(None, map(parse_mark, marks.elements.values())))


def known_zones(have: Ruleset) -> dict[str, int]:
    """The zones of the bridges, in whichever table they are."""
    maps = (elements for key, elements in have.sets.items() if key.name == ZONES)
    return {name.strip('"'): int(value.removeprefix(": ")) for found in maps for name, value in found.elements.items()}


def _hook(chain: Mapping[str, Any]) -> str:
    if "hook" not in chain:
        return ""
    return f"type {chain['type']} hook {chain['hook']} priority {chain['prio']}; policy {chain['policy']};"


def _element(raw: Any, *, is_device: bool) -> tuple[str, str]:
    value = ""
    if isinstance(raw, list):
        raw, target = raw
        value = f": {_target(target)}"
    if isinstance(raw, dict) and "elem" in raw:
        value = value or str(raw["elem"].get("comment", ""))
        raw = raw["elem"]["val"]
    if is_device:
        return device_key(str(raw)), value
    return _canonical(str(raw), is_mark=bool(value) and not value.startswith(":")), value


def _target(target: Any) -> str:
    if isinstance(target, dict) and "jump" in target:
        return f"jump {target['jump']['target']}"
    return str(target)


def _canonical(text: str, *, is_mark: bool) -> str:
    """nft writes some IPv6 addresses otherwise than Python does."""
    try:
        address = ip_address(text)
    except ValueError:
        return text  # a MAC
    return address.exploded if is_mark else str(address)
