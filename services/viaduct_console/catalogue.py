"""Every request of the contract, as an operator looks for it: by name, with its first line of documentation."""

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from viaduct_common.errors import InvalidRequest, UnsupportedType
from viaduct_common.messages.base import Request
from viaduct_common.messages.registry import IPAM_REQUESTS, MANAGER_REQUESTS, RequestType

REQUESTS: Mapping[str, RequestType] = {**IPAM_REQUESTS, **MANAGER_REQUESTS}


@dataclass(frozen=True)
class Entry:
    """One line of the catalogue."""

    type: str
    service: str
    role: str
    changes: bool
    summary: str


@dataclass(frozen=True)
class FieldEntry:
    """One field of a request, named as on the wire."""

    name: str
    kind: str
    required: bool
    default: str
    description: str


def entries(prefix: str = "") -> list[Entry]:
    """Return the requests whose name begins with `prefix`, in the order of their names."""
    return [_entry(name, REQUESTS[name]) for name in sorted(REQUESTS) if name.startswith(prefix)]


def find_request_type(name: str) -> RequestType:
    """Raises:
    UnsupportedType: there is none; the message names what is like it.
    """
    if name not in REQUESTS:
        near = get_close_matches(name, REQUESTS, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; see: viaduct types"
        raise UnsupportedType(f"no request type {name!r}{hint}")
    return REQUESTS[name]


def parse_request(name: str, body: str) -> Request[Any]:
    """Make a request of its JSON.

    Raises:
        UnsupportedType: no such type.
        InvalidRequest: the body is no JSON object, or has a wrong field; the first culprit is named.
    """
    request_type = find_request_type(name)
    try:
        json.loads(body)
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"the body is no JSON: {error}") from None
    try:
        return request_type.from_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "body"
        raise InvalidRequest.of_field(field, first["msg"]) from None


def fields_of(request_type: RequestType) -> list[FieldEntry]:
    """Return the fields of a request, the required ones first."""
    schema = request_type.model_json_schema(by_alias=True)
    required = set(schema.get("required", []))
    found = [
        FieldEntry(
            name,
            _kind(field, schema.get("$defs", {})),
            name in required,
            json.dumps(field["default"]) if field.get("default") is not None else "",
            field.get("description", ""),
        )
        for name, field in schema.get("properties", {}).items()
    ]
    return sorted(found, key=lambda entry: not entry.required)


def _entry(name: str, request_type: RequestType) -> Entry:
    service = "both" if name in MANAGER_REQUESTS and name in IPAM_REQUESTS else request_type.service
    return Entry(name, service, request_type.required_role, request_type.mutating, summary_of(request_type))


def summary_of(request_type: RequestType) -> str:
    """Return the first line of a request's documentation."""
    return inspect.cleandoc(request_type.__doc__ or "").partition("\n")[0]


def _kind(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """A JSON Schema in a few words: `uuid`, `list of uuid`, `"attach" | "detach"`."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return "{" + ", ".join(definitions.get(name, {}).get("properties", {})) + "}"
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if "anyOf" in schema:
        kinds = [_kind(one, definitions) for one in schema["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "const" in schema:
        return json.dumps(schema["const"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}), definitions)}"
    return str(schema.get("format") or schema.get("type") or "any")
