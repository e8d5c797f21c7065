"""The bases of every message, and the envelope of a reply."""

from functools import cache
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel

from viaduct_common.messages.fields import PageLimit

V = TypeVar("V")
Role = Literal["reader", "operator", "admin"]
Service = Literal["manager", "ipam"]


class WireModel(BaseModel):
    """Anything on the wire: frozen, camelCase in JSON, unknown fields ignored (a tolerant reader)."""

    model_config = ConfigDict(
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=True,  # for Python callers; JSON is parsed by alias only, see `from_json`
        validate_by_alias=True,
        serialize_by_alias=True,
        extra="ignore",
    )

    @classmethod
    def from_json(cls, body: bytes | str) -> Self:
        """Parse what came over the wire; only the camelCase names are fields there."""
        return cls.model_validate_json(body, by_alias=True, by_name=False)

    def to_json(self) -> bytes:
        return self.model_dump_json().encode()


class StrictModel(WireModel):
    """A part of a request: a typing mistake must not become a default."""

    model_config = ConfigDict(extra="forbid")


class Request(StrictModel, Generic[V]):
    """A question or an order to a service; `V` is the type of the `value` in its reply."""

    message_type: ClassVar[str]
    service: ClassVar[Service] = "manager"
    required_role: ClassVar[Role] = "operator"
    # A mutating request is done once per `message_id`; a reading one is simply done again.
    mutating: ClassVar[bool] = True


class Command(WireModel):
    """The manager's order to one agent: always a list of things in their whole desired state."""

    message_type: ClassVar[str]


class Report(WireModel):
    """What an agent tells the manager; `host_uuid` is never trusted, the broker-validated `user_id` is."""

    message_type: ClassVar[str]

    host_uuid: UUID


class Event(WireModel):
    """A fact that happened, for whoever binds a queue; the routing key is the message type."""

    message_type: ClassVar[str]


class ErrorBody(WireModel):
    """An error on the wire (design: stable code, human message, machine-readable details)."""

    code: str
    message: str
    details: dict[str, Any] = Field(default_factory=dict)
    retryable: bool = False


class OkReply(WireModel, Generic[V]):
    ok: Literal[True] = True
    value: V


class ErrorReply(WireModel):
    ok: Literal[False] = False
    error: ErrorBody


class Page(WireModel, Generic[V]):
    """One page of a query; `after` is the cursor of the next page, null on the last."""

    items: list[V]
    after: str | None = None


class QueryBody(StrictModel):
    """What every `query` has beside its filters.

    `sort` is a field name, descending with a leading minus. A filter is a value or a list of values (any of them).
    """

    sort: str | None = Field(default=None, max_length=64)
    limit: PageLimit = 100
    after: str | None = Field(default=None, max_length=2048)


@cache
def reply_adapter(request_type: type[Request[Any]]) -> TypeAdapter[OkReply[Any] | ErrorReply]:
    """The adapter of the reply to this request type."""
    for base in request_type.__mro__:
        metadata = getattr(base, "__pydantic_generic_metadata__", None)
        if metadata and metadata["origin"] is Request:
            reply: Any = OkReply[metadata["args"][0]] | ErrorReply  # type: ignore[misc]  # known at run time only
            return TypeAdapter(reply)
    raise TypeError(f"{request_type.__name__} does not say what answers it: derive from Request[...]")
