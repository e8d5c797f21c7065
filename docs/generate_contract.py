"""Write the tables of contract.md and operations.md, between their markers, from the models.

    python docs/generate_contract.py [--check]

A table stands between `<!-- generated: NAME -->` and `<!-- end -->`. With --check nothing is written; the exit status
tells whether a file would change.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import contract_notes as notes
from pydantic import BaseModel
from pydantic.alias_generators import to_camel
from pydantic_settings import BaseSettings

from viaduct_agent.settings import AgentSettings
from viaduct_common import errors, topology
from viaduct_common.messages import agent, batch, cluster, host, ipam, l2, l3, operation, realization, vm, zone
from viaduct_common.messages.base import ErrorBody, Request, reply_adapter
from viaduct_common.messages.registry import IPAM_REQUESTS, MANAGER_REQUESTS
from viaduct_common.messages.services import (
    commands,
    eips,
    instances,
    port_forwarding,
    providers,
    security_groups,
    vips,
)
from viaduct_ipam.settings import IpamSettings
from viaduct_manager.l2_types.registry import L2Types
from viaduct_manager.settings import ManagerSettings

DOCS = Path(__file__).parent
FILES = ("contract.md", "operations.md")
BEGIN, END = "<!-- generated: {} -->", "<!-- end -->"

# In the order of the document.
INVENTORIES: list[type[BaseModel]] = [
    zone.ZoneInventory,
    cluster.ClusterInventory,
    host.HostInventory,
    host.HostCredentials,
    l2.L2NetworkInventory,
    l2.HostCheck,
    l2.Difference,
    l2.L2Plan,
    l2.HostPlan,
    l2.CandidateClusters,
    l2.RefusedCluster,
    l3.L3NetworkInventory,
    l3.L3HostRoute,
    l3.AttachedService,
    providers.ServiceProviderInventory,
    instances.ServiceInventory,
    instances.ServiceCheck,
    vips.VipInventory,
    eips.EipInventory,
    port_forwarding.PortForwardingInventory,
    security_groups.SecurityGroupInventory,
    security_groups.SecurityGroupRuleInventory,
    security_groups.NewRule,
    security_groups.PortRange,
    security_groups.NicSecurityPolicy,
    vm.NicRequest,
    vm.NicInventory,
    vm.NicIp,
    vm.Placement,
    operation.OperationInventory,
    operation.OperationStep,
    realization.RealizationInventory,
    ipam.ScopeInventory,
    ipam.RangeInventory,
    ipam.ReservationInventory,
    ipam.UsedIpInventory,
    ipam.IpAvailability,
    ipam.IpHolding,
    ipam.IpAudit,
    ipam.IpCapacity,
    ipam.ScopeFill,
    ipam.ImportInventory,
    ipam.ImportLine,
    ipam.ImportAdded,
    ipam.ImportResult,
    ipam.ImportProblem,
    ErrorBody,
    batch.BatchItem,
]
AGENT_PARTS: list[type[BaseModel]] = [
    agent.L2Desired,
    agent.L2Inquiry,
    agent.ItemResult,
    agent.Orphan,
    agent.Held,
    agent.InterfaceFact,
    agent.HealthFact,
    commands.ServiceDesired,
    commands.ServiceResult,
    agent.HeldService,
]
COMMANDS = [
    agent.RealizeL2Command,
    agent.ReleaseL2Command,
    agent.CheckL2Command,
    agent.SyncHostCommand,
    agent.ListOrphansCommand,
    commands.ApplyServicesCommand,
    commands.RemoveServicesCommand,
    commands.CheckServicesCommand,
    commands.SyncServicesCommand,
]
REPORTS = [
    agent.Completion,
    agent.HostHello,
    agent.HostHeartbeat,
    agent.HostDrift,
    commands.ServiceCompletion,
    commands.ServiceDrift,
]
LINKED = {model.__name__ for model in [*INVENTORIES, *AGENT_PARTS]}

Schema = dict[str, Any]


# ---- types and fields as text --------------------------------------------------------------------------------------


def type_of(schema: Schema, defs: Schema) -> str:  # noqa: PLR0911 - one line per kind of schema
    """A JSON Schema as a few words."""
    if "$ref" in schema:
        return _reference(schema["$ref"].rsplit("/", 1)[1], defs)
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " \\| ".join(f"`{one}`" for one in schema["enum"])
    if "anyOf" in schema:
        return _union(schema["anyOf"], defs)
    kind = schema.get("type")
    if kind == "array":
        return f"list of {type_of(schema.get('items', {}), defs)}{_size(schema, 'Items')}"
    if kind == "string":
        return schema.get("format", "string") + _size(schema, "Length")
    if kind in {"integer", "number"}:
        return kind + _bounds(schema)
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"map of string to {type_of(values, defs)}" if isinstance(values, dict) else "object"
    return kind or "any"


def _reference(name: str, defs: Schema) -> str:
    for model in LINKED:
        if name == model or name.startswith(f"{model}_"):
            return f"[{model}](#{anchor(object_title(model))})"
    return type_of(defs[name], defs) if name in defs and "properties" not in defs[name] else "object"


def _union(parts: list[Schema], defs: Schema) -> str:
    names = [type_of(part, defs) for part in parts if part.get("type") != "null"]
    if sorted(names) == ["ipv4", "ipv6"]:
        names = ["IP address"]
    if len(names) > 1 and names[-1].startswith("list of "):  # one or many
        many = names.pop()
        one = " or ".join(dict.fromkeys(names)).replace("ipv4 or ipv6", "IP address")
        names = [one if "list of" in one else f"{one}, or a list" if many else one]
    null = " or null" if any(part.get("type") == "null" for part in parts) else ""
    return " or ".join(dict.fromkeys(names)) + null


def _size(schema: Schema, unit: str) -> str:
    least, most = schema.get(f"min{unit}"), schema.get(f"max{unit}")
    if least is None and most is None:
        return ""
    if most is None:
        return f" (at least {least})"
    return f" ({least} to {most})" if least else f" (up to {most})"


def _bounds(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if high in {2**31 - 1, 2**63 - 1}:  # what the column holds: no limit that anybody meets
        high = None
    if low is not None and high is not None:
        return f" {low} to {high}"
    if low is not None:
        return f" from {low}"
    above = schema.get("exclusiveMinimum")
    return f" above {above:g}" + (f", up to {high:g}" if high is not None else "") if above is not None else ""


def default_of(name: str, schema: Schema, required: list[str]) -> str:
    if name in required:
        return "**required**"
    if "default" not in schema:
        return "empty" if schema.get("type") in {"array", "object"} or "$ref" in schema else "none"
    value = schema["default"]
    return "none" if value is None else f"`{json.dumps(value)}`"


def meaning(owner: str, name: str, schema: Schema) -> str:
    known = notes.MEANINGS.get(owner, {}).get(name, notes.MEANINGS["*"].get(name.rsplit(".", 1)[-1]))
    return known if known is not None else schema.get("description", "")


def rows_of(owner: str, schema: Schema, *, with_default: bool) -> Iterator[list[str]]:
    """One row per field; the fields of `filters` stand beside the others."""
    defs = schema.get("$defs", {})
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        target = field.get("$ref", "").rsplit("/", 1)[-1]
        if name == "filters" and target in defs:
            for inner, inner_field in defs[target]["properties"].items():
                kind = type_of(inner_field, defs).removesuffix(" or null")
                yield [f"`filters.{inner}`", kind, "none", meaning(owner, f"filters.{inner}", inner_field)]
            continue
        kind = type_of(field, defs)
        if not with_default:
            yield [f"`{name}`", kind, meaning(owner, name, field)]
            continue
        yield [
            f"`{name}`",
            kind.removesuffix(" or null"),
            default_of(name, field, required),
            meaning(owner, name, field),
        ]


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def says(model: type[BaseModel]) -> str:
    """The docstring of the model itself, not of a base; its fields as they are written on the wire."""
    text = " ".join((vars(model).get("__doc__") or "").split())
    return re.sub(r"`([a-z]+(?:_[a-z0-9]+)+)`", lambda name: f"`{to_camel(name[1])}`", text)


def schema_of(model: type[BaseModel], mode: Any = "serialization") -> Schema:
    return model.model_json_schema(by_alias=True, mode=mode)


# ---- sections ------------------------------------------------------------------------------------------------------


def topology_table() -> str:
    rows = []
    for exchange, kind in topology.EXCHANGE_TYPES.items():
        bound = [
            f"`{queue}` by {', '.join(f'`{key}`' for key in keys)}"
            for queue, (source, keys) in topology.BINDINGS.items()
            if source == exchange
        ]
        if exchange == topology.COMMANDS:
            bound = ["`viaduct.agent.<hostUuid>` by the host's uuid"]
        rows.append([f"`{exchange}`", kind, "<br>".join(bound) or "whoever binds a queue"])
    return table(["exchange", "type", "queues and keys"], rows)


def error_table() -> str:
    rows = []
    for code, kind in errors.ERRORS_BY_CODE.items():
        when, details = notes.ERRORS[code]
        rows.append([f"`{code}`", f"`{kind.__name__}`", "yes" if kind.retryable else "no", when, details])
    return table(["code", "Python class", "retryable", "when", "details"], rows)


def value_of(request_type: type[Request[Any]]) -> str:
    schema = reply_adapter(request_type).json_schema(by_alias=True, mode="serialization")
    defs = schema["$defs"]
    ok = next(one for name, one in defs.items() if name.startswith("OkReply"))
    value = ok["properties"]["value"]
    name = value.get("$ref", "").rsplit("/", 1)[-1]
    if name.startswith("Page"):
        return f"page of {type_of(defs[name]['properties']['items']['items'], defs)}"
    return type_of(value, defs)


def overview(requests: dict[str, type[Request[Any]]]) -> str:
    rows = [
        [
            f"[`{name}`](#{anchor(name)})",
            "" if name == "batch" else kind.required_role,
            "by item" if name == "batch" else "yes" if kind.mutating else "",
            value_of(kind),
        ]
        for name, kind in requests.items()
        if name != "batch" or requests is MANAGER_REQUESTS
    ]
    return table(["type", "role", "changes something", "value"], rows)


def request_sections(requests: dict[str, type[Request[Any]]]) -> str:
    parts = []
    for name, kind in requests.items():
        if name == "batch" and requests is not MANAGER_REQUESTS:
            continue
        rows = list(rows_of(name, schema_of(kind, "validation"), with_default=True))
        if name == "l2.create":
            rows.append(["...", "", "", notes.MEANINGS[name]["<own>"]])
        part = [f"#### `{name}`", says(kind), table(["field", "type", "default", "meaning"], rows)]
        if notes.SORTS.get(name):
            first, *others = notes.SORTS[name]
            part.append(f"Sorts by {', '.join(f'`{one}`' for one in (first.lstrip('-'), *others))}; default `{first}`.")
        refusals = "; ".join(f"`{code}` ({when})" for code, when in notes.REFUSALS[name])
        part.append(f"Value: {value_of(kind)}. Refusals: {refusals or 'none of its own'}.")
        parts.append("\n\n".join(part))
    return "\n\n".join(parts)


def object_title(name: str) -> str:
    """With a word before it: the anchors of `l2.plan` and `L2Plan` would be equal."""
    return f"object `{name}`"


def model_sections(models: list[type[BaseModel]]) -> str:
    parts = []
    for model in models:
        rows = list(rows_of(model.__name__, schema_of(model), with_default=False))
        title = f"#### {object_title(model.__name__)}"
        parts.append("\n\n".join(filter(None, [title, says(model), fields_table(rows)])))
    return "\n\n".join(parts)


def message_sections(models: list[Any]) -> str:
    parts = []
    for model in models:
        # The names of two commands are those of requests: the anchors must differ.
        title = f"#### command `{model.message_type}`" if model in COMMANDS else f"#### `{model.message_type}`"
        rows = list(rows_of(model.message_type, schema_of(model), with_default=False))
        parts.append("\n\n".join([title, says(model), fields_table(rows)]))
    return "\n\n".join(parts)


def fields_table(rows: list[list[str]]) -> str:
    return table(["field", "type", "meaning"], rows)


def l2_type_table() -> str:
    types = L2Types.from_entry_points()
    rows = []
    examples = {"vlan": 10, "vni": 10, "key": 10}
    placeholders = {"vlan": "<vlan>", "vni": "<vni>", "key": "<key>"}
    for name in (l2.L2_NOVLAN, l2.L2_VLAN, l2.L2_VXLAN, l2.L2_OVS_GRE):
        kind = types.get(name)
        schema = schema_of(kind.fields, "validation")
        own = "; ".join(f"{row[0]}: {row[1]}, {row[2]}" for row in rows_of(name, schema, with_default=True))
        example = kind.device_names("eth1", examples)
        key = kind.conflict_key("<interface>", placeholders)
        devices, backends = (", ".join(f"`{one}`" for one in names) for names in (example, kind.backends))
        mtu = str(kind.default_mtu(examples))
        rows.append([f"`{name}`", own or "none", f"`{key}`", devices, mtu, backends])
    return table(
        [
            "type",
            "fields of its own",
            "conflict key",
            "devices on `eth1` (VLAN, VNI, key 10)",
            "default MTU",
            "backends",
        ],
        rows,
    )


def event_table() -> str:
    return table(["routing key = `type`", "body"], [[f"`{key}`", body] for key, body in notes.EVENTS.items()])


def settings_table(settings: type[BaseSettings], prefix: str, extra: dict[str, str] | None = None) -> str:
    meanings = notes.SETTINGS | (extra or {})
    schema = settings.model_json_schema(by_alias=True)
    defs = schema.get("$defs", {})
    rows = []
    for name, field in schema["properties"].items():
        shown = f"`{prefix}{name.upper() if prefix else name}`"
        kind = type_of(field, defs).removesuffix(" or null").replace("pattern", "")
        rows.append([shown, kind, default_of(name, field, schema.get("required", [])), meanings[name]])
    return table(["setting", "type", "default", "meaning"], rows)


def anchor(title: str) -> str:
    """The fragment that code hosts make of a heading."""
    kept = "".join(char for char in title.lower() if char.isalnum() or char in " -_")
    return kept.replace(" ", "-")


SECTIONS: dict[str, Callable[[], str]] = {
    "topology": topology_table,
    "errors": error_table,
    "overview manager": lambda: overview(MANAGER_REQUESTS),
    "overview ipam": lambda: overview(IPAM_REQUESTS),
    "requests manager": lambda: request_sections(MANAGER_REQUESTS),
    "requests ipam": lambda: request_sections(IPAM_REQUESTS),
    "l2 types": l2_type_table,
    "inventories": lambda: model_sections(INVENTORIES),
    "commands": lambda: message_sections(COMMANDS),
    "reports": lambda: message_sections(REPORTS),
    "agent parts": lambda: model_sections(AGENT_PARTS),
    "events": event_table,
    "settings manager": lambda: settings_table(ManagerSettings, "VIADUCT_"),
    "settings ipam": lambda: settings_table(IpamSettings, "VIADUCT_"),
    "settings agent": lambda: settings_table(AgentSettings, "", notes.AGENT_SETTINGS),
}


def filled(text: str) -> str:
    """The text with every generated section anew."""
    parts = text.split("<!-- generated: ")
    result = parts[0]
    for part in parts[1:]:
        name, _, rest = part.partition(" -->")
        _, _, after = rest.partition(END)
        result += f"{BEGIN.format(name)}\n{SECTIONS[name]()}\n{END}{after}"
    return result


def main() -> int:
    changed = []
    for name in FILES:
        path = DOCS / name
        before = path.read_text()
        after = filled(before)
        if after != before:
            changed.append(name)
            if "--check" not in sys.argv:
                path.write_text(after)
    print("changed: " + ", ".join(changed) if changed else "up to date")
    return 1 if changed and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
