"""The digest that tells in one short text whether manager and agent agree on what a host holds."""

import hashlib
from collections.abc import Iterable
from uuid import UUID


def holdings_digest(holdings: Iterable[tuple[UUID, int]]) -> str:
    """Digest of (L2 network, generation) pairs, in any order; the same set gives the same text everywhere."""
    lines = sorted(f"{uuid}:{generation}" for uuid, generation in holdings)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]
