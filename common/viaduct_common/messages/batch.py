"""Many requests in one message: each done or refused on its own, with its own idempotency key."""

from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import Field

from viaduct_common.messages.base import Request, Role, StrictModel


class BatchItem(StrictModel):
    message_id: UUID
    type: Annotated[str, Field(max_length=64)]
    body: dict[str, Any]


class Batch(Request[list[dict[str, Any]]]):
    """Up to 256 requests, answered by a list of replies in the same order. A batch in a batch is refused."""

    message_type: ClassVar[str] = "batch"
    required_role: ClassVar[Role] = "reader"  # each item is judged by the role that it needs itself
    mutating: ClassVar[bool] = False

    requests: Annotated[list[BatchItem], Field(min_length=1, max_length=256)]
