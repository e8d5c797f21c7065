"""Inventories as tables: pure, from values to what rich can print. Names are text, never markup."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from viaduct_common.messages.base import ErrorBody
from viaduct_common.messages.host import HostInventory
from viaduct_common.messages.ipam import ImportProblem, ImportResult
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.messages.operation import OperationInventory, OperationStep
from viaduct_common.messages.realization import RealizationInventory
from viaduct_console.catalogue import Entry, FieldEntry
from viaduct_console.overview import Overview

STYLES = {
    "connected": "green",
    "connecting": "yellow",
    "disconnected": "red",
    "realized": "green",
    "pending": "yellow",
    "realizing": "yellow",
    "releasing": "yellow",
    "failed": "red",
    "running": "yellow",
    "succeeded": "green",
    "done": "green",
    "skipped": "yellow",
    "superseded": "dim",
}


def overview_view(overview: Overview, now: datetime) -> RenderableType:
    """Hosts, networks, and operations that run."""
    return Group(hosts_table(overview, now), Text(), networks_table(overview), Text(), running_table(overview, now))


def hosts_table(overview: Overview, now: datetime) -> RenderableType:
    """A line per host: where it belongs, whether it lives, how much of what it must have it has."""
    if not overview.hosts:
        return Text("No host is registered.")
    table = _table("Hosts", "host", "cluster", "state", "last heard", "agent", "networks", "health")
    for host in overview.hosts:
        rows = [row for row in overview.realizations if row.host_uuid == host.uuid and row.desired == "present"]
        realized = sum(row.state == "realized" for row in rows)
        table.add_row(
            Text(host.name),
            Text(overview.name_of(host.cluster_uuid)),
            _host_state(host),
            Text(age(host.last_seen_at, now)),
            Text(host.agent_version or ""),
            Text(f"{realized} of {len(rows)}" if rows else "-", style="yellow" if realized < len(rows) else ""),
            _health(host),
        )
    return table


def networks_table(overview: Overview) -> RenderableType:
    """A line per L2 network: what it is, where it is attached, and how far each host is."""
    if not overview.l2_networks:
        return Text("No L2 network exists.")
    table = _table("L2 networks", "network", "type", "on", "bridge", "clusters", "realized on hosts")
    for network in overview.l2_networks:
        clusters = ", ".join(overview.name_of(uuid) for uuid in network.attached_cluster_uuids)
        table.add_row(
            Text(network.name),
            Text(network.type),
            Text(place_of(network)),
            Text(network.bridge_name),
            Text(clusters or "-"),
            _realizations(overview, network),
        )
    return table


def running_table(overview: Overview, now: datetime) -> RenderableType:
    """A line per operation that has not ended."""
    if not overview.running_operations:
        return Text("No operation is running.")
    table = _table("Running operations", "operation", "type", "network", "cluster", "phase", "for", "deadline in")
    for operation in overview.running_operations:
        table.add_row(
            Text(str(operation.uuid)),
            Text(operation.type),
            Text(overview.name_of(operation.l2_network_uuid)),
            Text(overview.name_of(operation.cluster_uuid)),
            Text(operation.phase),
            Text(age(operation.created_at, now).removesuffix(" ago")),
            Text(seconds((operation.deadline_at - now).total_seconds())),
        )
    return table


def operation_view(operation: OperationInventory, overview: Overview) -> RenderableType:
    """One operation: what, whether it succeeded, and each host's part of it."""
    subject = [overview.name_of(uuid) for uuid in (operation.l2_network_uuid, operation.cluster_uuid) if uuid]
    subject += [overview.name_of(operation.host_uuid)] if operation.host_uuid else []
    head = Text.assemble((operation.type, "bold"), "  ", " / ".join(subject), "  ", _state(operation.state))
    if operation.finished_at is not None:
        head.append(f"  {seconds((operation.finished_at - operation.created_at).total_seconds())}", style="dim")
    else:
        head.append(f"  phase {operation.phase}", style="dim")
    parts: list[RenderableType] = [head]
    if operation.error is not None:
        parts.append(error_text(operation.error))
    if operation.steps:
        parts.append(_steps_table(operation.steps, overview))
    return Group(*parts)


def _steps_table(steps: Iterable[OperationStep], overview: Overview) -> Table:
    table = _table("", "host", "phase", "state", "took", "changes")
    for step in sorted(steps, key=lambda step: (step.started_at, overview.name_of(step.host_uuid))):
        what = Text("\n".join(step.changes)) if step.error is None else error_text(step.error)
        took = "" if step.finished_at is None else seconds((step.finished_at - step.started_at).total_seconds())
        table.add_row(Text(overview.name_of(step.host_uuid)), Text(step.phase), _state(step.state), Text(took), what)
    return table


def types_table(entries: Sequence[Entry]) -> RenderableType:
    """A line per request type."""
    table = _table("", "type", "service", "role", "", "what it does")
    for entry in entries:
        changes = Text("changes", style="yellow") if entry.changes else Text("reads", style="dim")
        table.add_row(Text(entry.type), Text(entry.service), Text(entry.role), changes, Text(entry.summary))
    return table


def fields_table(fields: Sequence[FieldEntry]) -> RenderableType:
    """A line per field of a request."""
    if not fields:
        return Text("It has no fields.")
    table = _table("", "field", "kind", "", "what it is")
    for field in fields:
        need = Text("required", style="bold") if field.required else Text(field.default and f"= {field.default}")
        table.add_row(Text(field.name), Text(field.kind), need, Text(field.description))
    return table


def import_view(result: ImportResult) -> RenderableType:
    """What an import did, or all that is wrong with it, line by line."""
    counts = [_counted(result.ranges, "range"), _counted(result.reservations, "reservation")]
    rows = f"{', '.join(counts)} and {_counted(result.allocations, 'allocation')}"
    if result.applied:
        return Text.assemble(("imported", "green"), f"  {rows}")
    if not result.problem_count:
        return Text.assemble(("nothing is wrong", "green"), f"  {rows} would be imported")
    head = Text.assemble((_counted(result.problem_count, "problem"), "bold red"), "  nothing was imported")
    if result.problem_count > len(result.problems):
        head.append(f"; the first {len(result.problems)} are shown (--show)", style="dim")
    return Group(_problems_table(result.problems), head) if result.problems else head


def _problems_table(problems: Iterable[ImportProblem]) -> Table:
    table = _table("", "line", "column", "code", "what is wrong")
    for problem in problems:
        table.add_row(
            Text(str(problem.line)), Text(problem.field or ""), Text(problem.code, style="red"), Text(problem.message)
        )
    return table


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def error_text(error: ErrorBody) -> Text:
    """Code and message of an error."""
    return Text.assemble((error.code, "bold red"), f": {error.message}")


def place_of(network: L2NetworkInventory) -> str:
    """Where a network lives: the interface, and the type's own fields."""
    own = [f"{name} {_said(value)}" for name, value in sorted(network.own_fields().items()) if value is not None]
    return " ".join([network.physical_interface, *own])


def _said(value: object) -> str:
    """A field's value; the numbers of a range with a dash between them, the lower first."""
    if isinstance(value, dict) and all(isinstance(end, int) for end in value.values()):
        return "-".join(map(str, sorted(value.values())))
    return str(value)


def age(then: datetime | None, now: datetime) -> str:
    """How long ago something was."""
    if then is None:
        return "never"
    return f"{seconds(max(0.0, (now - then).total_seconds()))} ago"


def seconds(value: float) -> str:
    """A duration, as short as it can be said."""
    if abs(value) < 1:
        return f"{value * 1000:.0f} ms"
    if abs(value) < 120:
        return f"{value:.1f} s" if abs(value) < 10 else f"{value:.0f} s"
    minutes = value / 60
    if abs(minutes) < 120:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.0f} h" if abs(minutes) < 48 * 60 else f"{minutes / 60 / 24:.0f} days"


def _realizations(overview: Overview, network: L2NetworkInventory) -> Text:
    """`3 realized`, and by name every host that is not there yet, with the reason."""
    rows = [row for row in overview.realizations if row.l2_network_uuid == network.uuid]
    if not rows:
        return Text("-")
    counts = Counter(row.state for row in rows)
    parts = [Text(f"{counts['realized']} realized", style="green")] if counts["realized"] else []
    parts += [_late(row, overview) for row in rows if row.state != "realized"]
    return Text("\n").join(parts)


def _late(row: RealizationInventory, overview: Overview) -> Text:
    text = Text.assemble(overview.name_of(row.host_uuid), " ", _state(row.state))
    return text.append(f": {row.error.code}, {row.error.message}") if row.error else text


def _host_state(host: HostInventory) -> Text:
    state = _state(host.state)
    return state.append(", maintenance", style="yellow") if host.maintenance else state


def _health(host: HostInventory) -> Text:
    bad = [str(fact.get("name", "?")) for fact in host.health if not fact.get("ok", True)]
    return Text(", ".join(bad), style="yellow") if bad else Text("ok" if host.health else "", style="green")


def _state(state: str) -> Text:
    return Text(state, style=STYLES.get(state, ""))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, header_style="dim", overflow="fold")
    return table
