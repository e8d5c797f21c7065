"""Uuids of what a request creates."""

from uuid import UUID, uuid5

from viaduct_common.bus import RequestContext

_NAMESPACE = UUID("6f2b7a52-55a5-4a0e-9d43-0c4b0b8f0f6e")


def fresh_uuid(chosen: UUID | None, context: RequestContext, kind: str) -> UUID:
    """The client's choice, or one derived from the request's identity: a request that is done again after a crash
    makes the same thing again, also where Postgres is not the only one that keeps it (a host's broker user)."""
    return chosen or uuid5(_NAMESPACE, f"{kind}\0{context.sender}\0{context.message_id}")
