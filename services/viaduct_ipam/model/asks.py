"""What a plan may need to know of the store before it can go on."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True)
class RoomsAsk:
    """The next `limit` blocks with room, from the block `first` on up to the block `last`."""

    range_uuid: UUID
    first: int
    last: int
    limit: int


@dataclass(frozen=True)
class BlockAsk:
    """One block."""

    range_uuid: UUID
    block: int


@dataclass(frozen=True)
class CoolingAsk:
    """Whether an address that is taken is cooling, and whose it was."""

    version: int
    ip: int


@dataclass(frozen=True)
class FormerAsk:
    """The addresses that the owner released last, the latest first."""

    owner: str
    count: int


Ask = RoomsAsk | BlockAsk | CoolingAsk | FormerAsk
