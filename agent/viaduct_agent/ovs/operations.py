"""Steps as the operations of one OVSDB transaction (RFC 7047 §5.2): all of them are done, or none.

A row that is there is addressed by its uuid, never by its name, behind a `wait` that it still carries our mark and,
where ports would go with it, that no port came since we looked. If not, the transaction fails and we look again.
"""

from collections.abc import Iterable
from typing import Any, TypeAlias

from viaduct_agent.ovs.model import (
    GENERATION_KEY,
    OWNER_KEY,
    SYSTEM,
    AddBridge,
    AddPort,
    Bridge,
    DelBridge,
    DelPort,
    Port,
    SetBridge,
    SetPort,
    Step,
    format_mark,
)

Operation: TypeAlias = dict[str, Any]
_ROOT = "Open_vSwitch"  # the table of one row that refers to all bridges


class Stale(Exception):
    """The database is not as it was when the steps were planned: look again, plan again. Nothing was changed."""


def operations(steps: Iterable[Step]) -> list[Operation]:
    """The operations, in order; names of new rows are unique within them."""
    found: list[Operation] = []
    for number, step in enumerate(steps):
        found += _operations(step, f"n{number}")
    return found


def _operations(step: Step, new: str) -> list[Operation]:
    match step:
        case AddBridge(bridge):
            return _add_bridge(bridge, new)
        case SetBridge():
            return _set_bridge(step, new)
        case DelBridge(bridge):
            ports = [bridge.local_row, *(port.row for port in bridge.ports)]
            guard = _guard("Bridge", bridge.row, bridge, ports=_set(_uuid(row) for row in ports if row))
            return [guard, _mutate(_ROOT, [], "bridges", "delete", _uuid(bridge.row))]
        case AddPort(name, port):
            own = {"name": port.name, "external_ids": _marked(port), "interfaces": ["named-uuid", f"{new}i"]}
            return [
                _insert("Interface", f"{new}i", {**_interface_columns(port), "name": port.name}),
                _insert("Port", f"{new}p", {**_port_columns(port), **own}),
                _mutate("Bridge", [["name", "==", name]], "ports", "insert", ["named-uuid", f"{new}p"]),
            ]
        case SetPort(_, before, port):
            return [
                _guard("Port", before.row, before),
                _update("Port", before.row, _port_columns(port)),
                *_mark(before, port, "Port", before.row),
                _update("Interface", before.interface_row, _interface_columns(port)),
            ]
        case DelPort(name, port):
            where = [["name", "==", name]]
            return [_guard("Port", port.row, port), _mutate("Bridge", where, "ports", "delete", _uuid(port.row))]


def _add_bridge(bridge: Bridge, new: str) -> list[Operation]:
    own = {"name": bridge.name, "external_ids": _marked(bridge), "ports": ["named-uuid", f"{new}p"]}
    return [
        *_local(bridge, new),
        _insert("Bridge", f"{new}b", {**_bridge_columns(bridge), **own}),
        _mutate(_ROOT, [], "bridges", "insert", ["named-uuid", f"{new}b"]),
    ]


def _set_bridge(step: SetBridge, new: str) -> list[Operation]:
    before, bridge = step.before, step.after
    found = [
        _guard("Bridge", before.row, before),
        _update("Bridge", before.row, _bridge_columns(bridge)),
        *_mark(before, bridge, "Bridge", before.row),
    ]
    if {"mtu", "error"} & {*step.changed}:
        if before.local_interface_row:
            found.append(_update("Interface", before.local_interface_row, {"mtu_request": _optional(bridge.mtu)}))
        else:  # somebody deleted the local port
            found += _local(bridge, new)
            where = [["_uuid", "==", _uuid(before.row)]]
            found.append(_mutate("Bridge", where, "ports", "insert", ["named-uuid", f"{new}p"]))
    return found


def _local(bridge: Bridge, new: str) -> list[Operation]:
    """The port and interface of the bridge's own name, as `ovs-vsctl add-br` makes them."""
    interface = {"name": bridge.name, "type": "internal", "mtu_request": _optional(bridge.mtu)}
    port = {"name": bridge.name, "interfaces": ["named-uuid", f"{new}i"]}
    return [_insert("Interface", f"{new}i", interface), _insert("Port", f"{new}p", port)]


def _bridge_columns(bridge: Bridge) -> Operation:
    return {
        "datapath_type": "" if bridge.datapath_type == SYSTEM else bridge.datapath_type,
        "fail_mode": _optional(bridge.fail_mode),
        "stp_enable": bridge.stp,
        "rstp_enable": bridge.rstp,
        "mcast_snooping_enable": bridge.mcast_snooping,
        **({"controller": _set(())} if not bridge.controllers else {}),
    }


def _port_columns(port: Port) -> Operation:
    return {
        "protected": port.protected,
        "tag": _optional(port.tag),
        "trunks": _set(port.trunks),
        "vlan_mode": _optional(port.vlan_mode),
    }


def _interface_columns(port: Port) -> Operation:
    return {"type": port.kind, "options": _map(port.options)}


def _mark(before: Bridge | Port, after: Bridge | Port, table: str, row: str) -> list[Operation]:
    """The mark alone: other keys of external_ids are others' business."""
    if (before.owner, before.generation) == (after.owner, after.generation):
        return []
    where = [["_uuid", "==", _uuid(row)]]
    keys = ["set", [OWNER_KEY, GENERATION_KEY]]
    mutations = [["external_ids", "delete", keys], ["external_ids", "insert", _marked(after)]]
    return [{"op": "mutate", "table": table, "where": where, "mutations": mutations}]


def _guard(table: str, row: str, item: Bridge | Port, **also: Any) -> Operation:
    """Fail, with nothing changed, unless the row is there and carries the mark that we saw."""
    mark = ["map", [[OWNER_KEY, str(item.owner)]]]
    return {
        "op": "wait",
        "timeout": 0,
        "table": table,
        "where": [["_uuid", "==", _uuid(row)], ["external_ids", "includes", mark]],
        "columns": ["name", *also],
        "until": "==",
        "rows": [{"name": item.name, **also}],
    }


def _insert(table: str, name: str, row: Operation) -> Operation:
    return {"op": "insert", "table": table, "uuid-name": name, "row": row}


def _update(table: str, row: str, columns: Operation) -> Operation:
    return {"op": "update", "table": table, "where": [["_uuid", "==", _uuid(row)]], "row": columns}


def _mutate(table: str, where: list[Any], column: str, mutator: str, value: Any) -> Operation:
    return {"op": "mutate", "table": table, "where": where, "mutations": [[column, mutator, value]]}


def _marked(item: Bridge | Port) -> list[Any]:
    return _map(format_mark(item.owner, item.generation).items())


def _map(pairs: Iterable[tuple[str, str]]) -> list[Any]:
    return ["map", [list(pair) for pair in pairs]]


def _set(items: Iterable[Any]) -> list[Any]:
    return ["set", list(items)]


def _optional(value: Any) -> Any:
    return _set(()) if value is None else value


def _uuid(row: str) -> list[str]:
    return ["uuid", row]
