"""What to do so that a host's Open vSwitch has one L2 network, or has it no more: pure, as `links.plan` is for links.

Realize, check, dry-run and drift repair are this one planner: "ok" is an empty plan.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from uuid import UUID

from viaduct_agent.ovs.model import (
    BRIDGE_ATTRIBUTES,
    PORT_ATTRIBUTES,
    Bridge,
    Bridges,
    Desired,
    Port,
    Step,
    steps_between,
)
from viaduct_common.errors import Conflict, InUse
from viaduct_common.messages.l2 import Difference


def plan(desired: Desired, actual: Bridges) -> tuple[Step, ...]:
    """Return the steps that turn `actual` into `desired`; nothing without the network's mark is ever among them.

    Args:
        desired: the network's bridge and its tunnels.
        actual: bridges by name. At least those that carry the network's mark or a wanted name, and those that have a
            port of which this is true, must be there if the host has them; more do no harm.

    Raises:
        Conflict: a wanted name is taken by a bridge or port of another owner, or of none; `details.device` names it.
        InUse: a bridge to be deleted has ports that are not ours; `details.ports` names them.
    """
    _refuse_taken_names(desired, actual)
    want = desired.bridge
    have = actual.get(want.name)
    others = {name: bridge for name, bridge in actual.items() if name != want.name}
    target = _without(desired.owner, others)
    target[want.name] = want.with_ports([*want.ports, *_foreign_ports(desired.owner, have)])
    return steps_between(actual, target)


def plan_release(owner: UUID, actual: Bridges, *, force: bool = False) -> tuple[Step, ...]:
    """Return the steps that take every bridge and port of `owner` away.

    Raises:
        InUse: a bridge has ports that are not ours (VMs' taps) and `force` is not set; `details.ports` names them.
    """
    return steps_between(actual, _without(owner, actual, force=force))


def differences(desired: Desired, actual: Bridges) -> list[Difference]:
    """Return every attribute of every bridge and port that is not as `desired` says; nothing is refused here."""
    want, have = desired.bridge, actual.get(desired.bridge.name)
    found = _compared(want, have, "bridge", BRIDGE_ATTRIBUTES)
    for port in want.ports:
        found += _compared(port, have.port(port.name) if have is not None else None, port.kind, PORT_ATTRIBUTES)
    for bridge in actual.values():
        if bridge.owner == desired.owner and bridge.name != want.name:
            found.append(Difference(device=bridge.name, attribute="device", desired="absent", actual="bridge"))
        for port in bridge.ports:
            if port.owner == desired.owner and (bridge.name != want.name or want.port(port.name) is None):
                found.append(Difference(device=port.name, attribute="device", desired="absent", actual=port.kind))
    return found


def _compared(want: Bridge | Port, have: Bridge | Port | None, kind: str, names: Iterable[str]) -> list[Difference]:
    if have is None:
        return [Difference(device=want.name, attribute="device", desired=kind)]
    pairs = [(name, getattr(want, name), getattr(have, name)) for name in names]
    return [
        Difference(device=want.name, attribute=name, desired=_wire(wanted), actual=_wire(is_now))
        for name, wanted, is_now in pairs
        if wanted != is_now
    ]


def _without(owner: UUID, bridges: Bridges, *, force: bool = False) -> dict[str, Bridge]:
    """What is left when all that `owner` has is gone."""
    going = [bridge for bridge in bridges.values() if bridge.owner == owner]
    users = sorted(port.name for bridge in going for port in _foreign_ports(owner, bridge) if not port.is_forsaken)
    if users and not force:
        names = sorted(bridge.name for bridge in going)
        raise InUse(f"in use by {', '.join(users)}: {', '.join(names)}", ports=users, devices=names)
    return {
        name: replace(bridge, ports=_foreign_ports(owner, bridge))
        for name, bridge in bridges.items()
        if bridge.owner != owner
    }


def _foreign_ports(owner: UUID, bridge: Bridge | None) -> tuple[Port, ...]:
    return () if bridge is None else tuple(port for port in bridge.ports if port.owner != owner)


def _refuse_taken_names(desired: Desired, actual: Bridges) -> None:
    for bridge in actual.values():
        if bridge.name in desired.device_names:  # its local port has its name: no other port may have that
            _refuse_unless_ours(desired, bridge, "bridge")
        for port in bridge.ports:
            if port.name in desired.device_names:
                _refuse_unless_ours(desired, port, f"port of {bridge.name}")


def _refuse_unless_ours(desired: Desired, item: Bridge | Port, what: str) -> None:
    if item.owner == desired.owner:
        return
    whose = "that is not ours" if item.owner is None else f"of the L2 network {item.owner}"
    owner = None if item.owner is None else str(item.owner)
    raise Conflict(f"the name {item.name} is taken by a {what} {whose}", device=item.name, owner=owner)


def _wire(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, tuple):
        return dict(value) if value and isinstance(value[0], tuple) else list(value)
    return value
