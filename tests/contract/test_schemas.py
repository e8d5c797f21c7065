"""The wire, as golden JSON Schemas: one file per message type, so that a change of the contract is a diff.

After a change that is meant, write them anew and look at the diff:

    VIADUCT_WRITE_SCHEMAS=1 .venv/bin/pytest tests/contract/test_schemas.py
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from viaduct_common.messages import agent, operation
from viaduct_common.messages.base import ErrorReply, reply_adapter
from viaduct_common.messages.registry import IPAM_REQUESTS, MANAGER_REQUESTS

FOLDER = Path(__file__).parent / "schemas"
WRITE = bool(os.environ.get("VIADUCT_WRITE_SCHEMAS"))
REQUESTS = MANAGER_REQUESTS | IPAM_REQUESTS
OTHERS: dict[str, type[BaseModel]] = {
    f"command.{kind.message_type}": kind
    for kind in (agent.RealizeL2Command, agent.ReleaseL2Command, agent.CheckL2Command, agent.SyncHostCommand)
} | {
    f"report.{kind.message_type}": kind
    for kind in (agent.Completion, agent.HostHello, agent.HostHeartbeat, agent.HostDrift)
}
OTHERS |= {"event.operation.finished": operation.OperationFinished, "error": ErrorReply}


def schema_of(name: str) -> Any:
    """What goes over the wire under a name: a request with its reply, or a message by itself."""
    if name in OTHERS:
        return OTHERS[name].model_json_schema(by_alias=True)
    kind = REQUESTS[name]
    return {
        "service": kind.service if name != "batch" else "manager and ipam",
        "role": kind.required_role,
        "mutating": kind.mutating,
        "request": kind.model_json_schema(by_alias=True),
        "reply": reply_adapter(kind).json_schema(by_alias=True, mode="serialization"),
    }


NAMES = sorted([*REQUESTS, *OTHERS])


@pytest.mark.parametrize("name", NAMES)
def test_schema_is_the_golden_one(name: str) -> None:
    """Whoever changes a message sees it here."""
    file = FOLDER / f"{name}.json"
    now = schema_of(name)
    if WRITE:
        FOLDER.mkdir(exist_ok=True)
        file.write_text(json.dumps(now, indent=1, sort_keys=True, ensure_ascii=False) + "\n")

    assert json.loads(file.read_text()) == json.loads(json.dumps(now))


def test_no_golden_schema_is_left_behind() -> None:
    """A message type that is gone takes its file with it."""
    assert sorted(file.stem for file in FOLDER.glob("*.json")) == NAMES


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_requests_refuse_unknown_fields_and_say_what_they_do(name: str) -> None:
    """But `l2.create`, whose type has fields of its own."""
    kind = REQUESTS[name]

    assert kind.model_config["extra"] == ("allow" if name == "l2.create" else "forbid")
    assert (kind.__doc__ or "").strip()
    assert all("_" not in field for field in kind.model_json_schema(by_alias=True).get("properties", {}))
