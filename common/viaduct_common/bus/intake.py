"""From the bytes of a message to a model, and who sent it: what is checked before any work is started."""

import json
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from pydantic import ValidationError

from viaduct_common import topology
from viaduct_common.bus.envelope import Delivery
from viaduct_common.errors import InvalidRequest, UnsupportedType, UnsupportedVersion

DEFAULT_DEADLINE_SECONDS = 60.0


@dataclass(frozen=True)
class RequestContext:
    """Who asks, and where the answer goes. `sender` is broker-validated; empty for an anonymous one.

    `may_defer` is false inside a batch: a long request is then answered at once with its operation.
    """

    sender: str
    message_id: UUID
    correlation_id: str | None
    reply_to: str | None
    deadline: float
    may_defer: bool = True


class MalformedMessage(InvalidRequest):
    """It is no JSON object of a size and depth that we read: for the dead letters, also when it is answered."""


class UnknownMessageType(UnsupportedType):
    """Nobody here knows the AMQP property `type`: for the dead letters as well."""


def check_envelope(delivery: Delivery, *, max_body_bytes: int = topology.MAX_BODY_BYTES) -> None:
    """Raises:
    UnsupportedVersion: another major version of the contract.
    MalformedMessage: the body is too large.
    """
    version = delivery.headers.get(topology.VERSION_HEADER, topology.CONTRACT_VERSION)
    if str(version) != str(topology.CONTRACT_VERSION):
        raise UnsupportedVersion(
            f"version {version!r} of the contract is not spoken here", supported=[topology.CONTRACT_VERSION]
        )
    if len(delivery.body) > max_body_bytes:
        raise MalformedMessage.of_field("body", f"larger than {max_body_bytes} bytes")


def context_of(delivery: Delivery) -> RequestContext:
    """Raises:
    InvalidRequest: the message id is no UUID.
    """
    try:
        # Without an id of its own a request has no idempotency, and nobody can ask for its answer again.
        message_id = UUID(delivery.message_id) if delivery.message_id else uuid4()
    except ValueError:
        raise InvalidRequest.of_field("message_id", "the AMQP property must be a UUID") from None
    deadline = delivery.deadline or time.monotonic() + DEFAULT_DEADLINE_SECONDS
    return RequestContext(
        sender=delivery.user_id or "",
        message_id=message_id,
        correlation_id=delivery.correlation_id or delivery.message_id,
        reply_to=delivery.reply_to,
        deadline=deadline,
    )


def parse_request(request_type: type[Any], body: bytes) -> Any:
    """Raises:
    MalformedMessage: no JSON, or no object.
    InvalidRequest: `details.field` is the camelCase path of the first culprit, `details.errors` lists all.
    """
    try:
        return request_type.from_json(body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        first = problems[0]
        if first["type"] in {"json_invalid", "model_type"}:
            raise MalformedMessage.of_field("body", first["msg"]) from None
        given = json.loads(body)
        errors = [{"field": field_path(one["loc"], given), "problem": one["msg"]} for one in problems[:20]]
        raise InvalidRequest.of_field(errors[0]["field"], errors[0]["problem"], errors=errors) from None


def field_path(loc: tuple[int | str, ...], given: Any) -> str:
    """The path of a field as its sender knows it: without pydantic's names of the branches of a union."""
    path = []
    for position, part in enumerate(loc):
        inside = isinstance(given, list) if isinstance(part, int) else isinstance(given, dict) and part in given
        if inside:
            given = given[part]
        elif position < len(loc) - 1 or not isinstance(given, dict):
            continue  # a branch; the last part of all may be a field that is missing
        path.append(str(part))
    return ".".join(path)
