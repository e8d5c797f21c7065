"""Whose a device is: the mark that it carries as its interface alias, where any operator sees it (`ip link`)."""

from uuid import UUID

_MARK = "viaduct"
_SERVICE_MARK = "viaduct-service"
# The owner of devices that several networks use (a VLAN-aware bridge): ours, and gone with the last of its users.
SHARED = UUID(int=0)


def format_mark(owner: UUID, generation: int) -> str:
    """`viaduct:<uuid>:<generation>`.

    >>> format_mark(SHARED, 0)
    'viaduct:00000000-0000-0000-0000-000000000000:0'
    """
    return _format(_MARK, owner, generation)


def parse_mark(alias: str | None) -> tuple[UUID, int] | None:
    """Owner and generation in an alias; None for an alias that is not exactly what `format_mark` writes."""
    return _parse(_MARK, alias)


def format_service_mark(service: UUID, generation: int) -> str:
    """`viaduct-service:<uuid>:<generation>`: a device of a network service, which is none of an L2 network's."""
    return _format(_SERVICE_MARK, service, generation)


def parse_service_mark(alias: str | None) -> tuple[UUID, int] | None:
    """As `parse_mark`, of what `format_service_mark` writes."""
    return _parse(_SERVICE_MARK, alias)


def _format(word: str, owner: UUID, generation: int) -> str:
    return f"{word}:{owner}:{generation}"


def _parse(word: str, alias: str | None) -> tuple[UUID, int] | None:
    parts = (alias or "").split(":")
    if len(parts) != 3 or parts[0] != word or not (parts[2].isascii() and parts[2].isdigit()):
        return None
    try:
        owner = UUID(parts[1])
    except ValueError:
        return None
    generation = int(parts[2])
    return (owner, generation) if _format(word, owner, generation) == alias else None
