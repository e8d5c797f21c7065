"""Open vSwitch's own client library: the rows that matter here, kept up to date, as our plain values.

The only file that imports the library. Everything runs in the worker's thread.
"""

import json
import socket
from pathlib import Path
from typing import Any
from uuid import UUID

from ovs.db.idl import ROW_CREATE, ROW_DELETE, Idl, SchemaHelper, Transaction

from viaduct_agent.ovs.model import BOND, SYSTEM, Bridge, Port, parse_mark
from viaduct_agent.ovs.operations import Operation, Stale
from viaduct_common.errors import BackendFailed, Conflict, PreconditionFailed, ViaductError

DATABASE = "Open_vSwitch"
# Nothing that ovs-vswitchd writes by itself again and again (statistics): each would wake us.
COLUMNS = {
    "Open_vSwitch": ["bridges", "next_cfg", "cur_cfg", "iface_types"],
    "Bridge": ["name", "ports", "external_ids", "datapath_type", "fail_mode", "stp_enable", "rstp_enable",
               "mcast_snooping_enable", "controller"],
    "Port": ["name", "interfaces", "external_ids", "protected", "tag", "trunks", "vlan_mode"],
    "Interface": ["name", "type", "options", "mtu_request", "error"],
    "Controller": ["target"],
}  # fmt: skip
_NAMED = ("Bridge", "Port", "Interface")
_MARKED = ("Bridge", "Port")
_CHUNK_BYTES = 64 * 1024


class Replica(Idl):  # type: ignore[misc] # the library has no types
    """One connection to ovsdb-server, not reused once it is lost.

    Raises:
        PreconditionFailed: this Open vSwitch lacks what we need.
        OSError, ValueError: the server does not answer, or not as one.
    """

    def __init__(self, path: Path, answer_seconds: float) -> None:
        helper = SchemaHelper(schema_json=_supported(_schema(path, answer_seconds)))
        for table, columns in COLUMNS.items():
            helper.register_columns(table, columns)
        # No probes: a Unix socket tells when the other end is gone.
        super().__init__(f"unix:{path}", helper, probe_interval=0, leader_only=False)
        self._named: dict[str, dict[str, Any]] = {table: {} for table in _NAMED}
        self._owners: dict[str, dict[UUID, UUID]] = {table: {} for table in _MARKED}
        self._was_ready = False
        self.changed_names: set[str] = set()
        self.changed_owners: set[UUID] = set()

    # ---- the connection --------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Connected, and the contents are here."""
        now = self._session.is_connected() and self.state == self.IDL_S_MONITORING
        self._was_ready = self._was_ready or now
        return bool(now)

    @property
    def lost(self) -> bool:
        """It was ready and is no more, or never will be."""
        return not self.ready and (self._was_ready or not self._session.is_alive())

    @property
    def cur_cfg(self) -> int:
        """The last configuration that ovs-vswitchd has taken over."""
        return int(self._root().cur_cfg)

    def supports(self, kind: str) -> bool:
        """Tell whether ovs-vswitchd knows this type of interface; one that has never run is given the benefit."""
        kinds = self._root().iface_types
        return not kinds or kind in kinds

    def transaction(self, operations: list[Operation]) -> Transaction:
        """Send the operations as one transaction, which also asks ovs-vswitchd to take them over (`next_cfg`)."""
        transaction = Transaction(self)
        self._root().increment("next_cfg")
        for operation in operations:
            transaction.add_op(operation)
        transaction.commit()
        return transaction

    def _root(self) -> Any:
        rows = list(self.tables["Open_vSwitch"].rows.values())
        if not rows:
            raise PreconditionFailed("Open vSwitch's database is empty: `ovs-vsctl init` was never run")
        return rows[0]

    # ---- rows as plain values --------------------------------------------------------------------------------

    def marked(self) -> dict[UUID, int]:
        """The owners of all that carries a mark, with the newest generation of each."""
        found: dict[UUID, int] = {}
        for table in _MARKED:
            for row_uuid in self._owners[table]:
                owner, generation = parse_mark(self.tables[table].rows[row_uuid].external_ids)
                if owner is not None:
                    found[owner] = max(generation or 0, found.get(owner, 0))
        return found

    def observe(self, owner: UUID, names: frozenset[str]) -> dict[str, Bridge]:
        """The bridges by name that have a wanted name or the owner's mark, or a port of which this is true."""
        bridges = self._rows("Bridge", owner, names)
        ports = self._rows("Port", owner, names)
        strays = ports.keys() - {port.uuid for bridge in bridges.values() for port in bridge.ports}
        if strays:
            for bridge in self.tables["Bridge"].rows.values():
                if any(port.uuid in strays for port in bridge.ports):
                    bridges[bridge.uuid] = bridge
        return {bridge.name: _bridge(bridge) for bridge in bridges.values()}

    def _rows(self, table: str, owner: UUID, names: frozenset[str]) -> dict[UUID, Any]:
        named = self._named[table]
        found = [named[name] for name in names if name in named]
        found += [self.tables[table].rows[uuid] for uuid, one in self._owners[table].items() if one == owner]
        return {row.uuid: row for row in found}

    def notify(self, event: str, row: Any, updates: Any = None) -> None:
        """The library's hook: a row came, changed or went."""
        table: str = row._table.name  # noqa: SLF001 # the library offers no other way to tell
        if table not in _NAMED:
            return
        self.changed_names.add(row.name)
        if event == ROW_DELETE:
            kept = self._named[table].get(row.name)
            if kept is not None and kept.uuid == row.uuid:  # else another of the name came in the same transaction
                del self._named[table][row.name]
        elif event == ROW_CREATE:
            self._named[table][row.name] = row
        if table in _MARKED:
            self._note_owner(table, event, row)

    def _note_owner(self, table: str, event: str, row: Any) -> None:
        before = self._owners[table].pop(row.uuid, None)
        now = parse_mark(row.external_ids)[0]
        if now is not None and event != ROW_DELETE:
            self._owners[table][row.uuid] = now
        self.changed_owners |= {one for one in (before, now) if one is not None}


def outcome(transaction: Transaction) -> int | None:
    """None while it runs, else the configuration number for which ovs-vswitchd is to be waited.

    Raises:
        Stale: a `wait` was not met, or the connection was lost.
        Conflict: a name was taken meanwhile.
        BackendFailed: the server refused it.
    """
    status = transaction.commit()
    if status == Transaction.INCOMPLETE:
        return None
    if status == Transaction.UNCHANGED:
        return 0
    if status == Transaction.SUCCESS:
        return int(transaction.get_increment_new_value())
    if status == Transaction.TRY_AGAIN:
        raise Stale
    raise _refusal(transaction.get_error())


def _refusal(text: str) -> ViaductError:
    if "constraint violation" in text and "identical values" in text:
        return Conflict(f"Open vSwitch has the name already: {text}")
    return BackendFailed(f"Open vSwitch's database refused it: {text}", error=text)


def _bridge(row: Any) -> Bridge:
    owner, generation = parse_mark(row.external_ids)
    local = next((port for port in row.ports if port.name == row.name), None)
    interface = next(iter(local.interfaces), None) if local is not None else None
    return Bridge(
        name=row.name,
        owner=owner,
        generation=generation,
        mtu=_first(interface.mtu_request) if interface is not None else None,
        datapath_type=row.datapath_type or SYSTEM,
        fail_mode=_first(row.fail_mode),
        stp=row.stp_enable,
        rstp=row.rstp_enable,
        mcast_snooping=row.mcast_snooping_enable,
        controllers=len(row.controller),
        error=_first(interface.error) if interface is not None else None,
        row=str(row.uuid),
        local_row="" if local is None else str(local.uuid),
        local_interface_row="" if interface is None else str(interface.uuid),
    ).with_ports(_port(port) for port in row.ports if port.name != row.name)


def _port(row: Any) -> Port:
    owner, generation = parse_mark(row.external_ids)
    interface = row.interfaces[0] if len(row.interfaces) == 1 and row.interfaces[0].name == row.name else None
    return Port(
        name=row.name,
        kind=BOND if interface is None else interface.type,
        owner=owner,
        generation=generation,
        options=() if interface is None else tuple(sorted(interface.options.items())),
        protected=row.protected,
        tag=_first(row.tag),
        trunks=tuple(sorted(row.trunks)),
        vlan_mode=_first(row.vlan_mode),
        error=None if interface is None else _first(interface.error),
        row=str(row.uuid),
        interface_row="" if interface is None else str(interface.uuid),
    )


def _first(values: list[Any]) -> Any:
    """An optional column is a set of at most one."""
    return values[0] if values else None


def _schema(path: Path, answer_seconds: float) -> dict[str, Any]:
    """Ask for the server's schema (RFC 7047 §4.1.2), with a socket of our own: it also tells why nobody answers."""
    request = {"method": "get_schema", "params": [DATABASE], "id": 0}
    text = ""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(answer_seconds)
        sock.connect(str(path))
        sock.sendall(json.dumps(request).encode())
        while chunk := sock.recv(_CHUNK_BYTES):
            text += chunk.decode("ascii", "replace")
            try:
                answer, _ = json.JSONDecoder().raw_decode(text)
            except json.JSONDecodeError:
                continue  # not all of it yet
            if not isinstance(answer, dict) or not isinstance(answer.get("result"), dict):
                raise ValueError(f"it has no database {DATABASE}")
            schema: dict[str, Any] = answer["result"]
            return schema
    raise ValueError("it hung up")


def _supported(schema: dict[str, Any]) -> dict[str, Any]:
    tables: dict[str, Any] = schema.get("tables", {})
    for table, columns in COLUMNS.items():
        missing = {*columns} - {*tables.get(table, {}).get("columns", {})}
        if missing:
            text = f"this Open vSwitch is too old: its table {table} has no column {', '.join(sorted(missing))}"
            raise PreconditionFailed(text, table=table, columns=sorted(missing))
    return schema
