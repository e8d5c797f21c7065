"""Imports: rows are staged a thousand at a time, then applied all or none; and the rows themselves, as files have them.

import.create ─► import.add, as often as needed ─► import.apply (or with dryRun) ─► import.problems ─► import.delete
"""

from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, BeforeValidator, Field

from viaduct_common.messages.base import Page, Request, Role, StrictModel, WireModel
from viaduct_common.messages.fields import Description, IpAddress, MacAddress, Name, OwnerName, PageLimit
from viaduct_common.messages.ipam.terms import AddressMode, IpamRequestMixin

RowKind = Literal["range", "reservation", "allocation"]
LineNumber = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]


def _written_out(value: Any) -> Any:
    """Pydantic would take a bare number for seconds since 1970; in a file that is a year, or a slip."""
    if not isinstance(value, str) or not value.strip().count("-") >= 2:
        raise ValueError("a date and time with its zone is wanted, such as 2026-01-31T12:00:00Z")
    return value


Instant = Annotated[AwareDatetime, BeforeValidator(_written_out)]


class RangeRow(StrictModel):
    """A line that adds a range, as `range.create` does with its ends."""

    kind: Literal["range"]
    l3_network_uuid: UUID
    start_ip: IpAddress
    end_ip: IpAddress
    prefix_length: Annotated[int, Field(ge=0, le=128)]
    gateway: IpAddress | None = None
    type: Literal["normal", "addressPool"] = "normal"
    address_mode: AddressMode | None = None
    name: Name | None = None


class ReservationRow(StrictModel):
    """A line that adds a reservation, as `reservation.create` does."""

    kind: Literal["reservation"]
    l3_network_uuid: UUID
    start_ip: IpAddress
    end_ip: IpAddress
    reason: Description | None = None
    owner: OwnerName | None = None
    mac: MacAddress | None = None


class AllocationRow(StrictModel):
    """A line that allocates one address, as `ip.allocate` does with `requiredIp` and `allowReserved`.

    Without `uuid` it gets a new one, without `allocatedAt` it is allocated now, with `expiresAt` it is a lease."""

    kind: Literal["allocation"]
    l3_network_uuid: UUID
    ip: IpAddress
    owner: OwnerName | None = None
    mac: MacAddress | None = None
    allocated_at: Instant | None = None
    expires_at: Instant | None = None
    uuid: UUID | None = None


class ImportLine(StrictModel):
    """A row, and where it stands in its file. Values are as in JSON, or text as in CSV; null is an empty cell.

    A row with wrong or unknown columns is taken all the same: it becomes a problem of its line."""

    line: LineNumber
    values: dict[str, Any]


class ImportInventory(WireModel):
    uuid: UUID
    created_at: AwareDatetime


class ImportProblem(WireModel):
    """What is wrong with a line: `field` is the column, `code` what the request of its own would be refused with."""

    line: int
    field: str | None = None
    code: str
    message: str


class ImportAdded(WireModel):
    """How many lines were taken, and how many problems they have by themselves."""

    lines: int
    problem_count: int


class ImportResult(WireModel):
    """How many rows of each kind the import holds, and the first hundred problems, by line.

    `applied` is true only if all of them are in effect now."""

    applied: bool
    ranges: int
    reservations: int
    allocations: int
    problem_count: int
    problems: list[ImportProblem]


class CreateImport(IpamRequestMixin, Request[ImportInventory]):
    """Begin an import. It is forgotten after 24 hours, applied or not."""

    message_type: ClassVar[str] = "import.create"
    required_role: ClassVar[Role] = "admin"


class AddToImport(IpamRequestMixin, Request[ImportAdded]):
    """Stage rows; nothing is done yet. Lines that are there already with the same values are no error."""

    message_type: ClassVar[str] = "import.add"
    required_role: ClassVar[Role] = "admin"

    import_uuid: UUID
    rows: Annotated[list[ImportLine], Field(min_length=1, max_length=1000)]


class ApplyImport(IpamRequestMixin, Request[ImportResult]):
    """Do all that is staged, or nothing if any line is wrong.

    Ranges come first, then reservations, then allocations, each in the order of the lines. With `dry_run` it only says
    what is wrong, and locks nothing. One that was applied is not applied again."""

    message_type: ClassVar[str] = "import.apply"
    required_role: ClassVar[Role] = "admin"

    import_uuid: UUID
    dry_run: bool = False


class GetImportProblems(IpamRequestMixin, Request[Page[ImportProblem]]):
    """All that is known to be wrong, by line.

    After `import.add` that is what is wrong with the rows by themselves, after `import.apply` also with what they would
    do."""

    message_type: ClassVar[str] = "import.problems"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    import_uuid: UUID
    limit: PageLimit = 100
    after: Annotated[str, Field(max_length=64)] | None = None


class DeleteImport(IpamRequestMixin, Request[ImportInventory | None]):
    """Forget an import, not what it did."""

    message_type: ClassVar[str] = "import.delete"
    required_role: ClassVar[Role] = "admin"

    import_uuid: UUID
