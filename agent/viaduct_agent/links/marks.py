"""Whose a device is: the mark that it carries as its interface alias, where any operator sees it (`ip link`)."""

from uuid import UUID

_MARK = "viaduct"
# The owner of devices that several networks use (a VLAN-aware bridge): ours, and gone with the last of its users.
SHARED = UUID(int=0)


def format_mark(owner: UUID, generation: int) -> str:
    """`viaduct:<uuid>:<generation>`.

    >>> format_mark(SHARED, 0)
    'viaduct:00000000-0000-0000-0000-000000000000:0'
    """
    return f"{_MARK}:{owner}:{generation}"


def parse_mark(alias: str | None) -> tuple[UUID, int] | None:
    """Owner and generation in an alias; None for an alias that is not exactly what `format_mark` writes."""
    parts = (alias or "").split(":")
    if len(parts) != 3 or parts[0] != _MARK or not (parts[2].isascii() and parts[2].isdigit()):
        return None
    try:
        owner = UUID(parts[1])
    except ValueError:
        return None
    generation = int(parts[2])
    return (owner, generation) if format_mark(owner, generation) == alias else None
