"""The lines of an import by themselves: which columns they have, and the rules that need no look at the store."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from viaduct_common.errors import InvalidRequest, ViaductError
from viaduct_common.messages.ipam import (
    AllocationRow,
    CreateRange,
    CreateReservation,
    ImportProblem,
    RangeRow,
    ReservationRow,
    RowKind,
)
from viaduct_ipam.model.ranges import Address, Bounds, bounds_of
from viaduct_ipam.model.reservations import check_reservation

ROWS: Mapping[RowKind, type[RangeRow] | type[ReservationRow] | type[AllocationRow]] = {
    "range": RangeRow,
    "reservation": ReservationRow,
    "allocation": AllocationRow,
}

# So much of a column's name or of a value stands in a message.
MOST_SHOWN = 64


@dataclass(frozen=True)
class StagedRow:
    """A line that can be read, with what its kind has of the columns; an allocation's address is both ends."""

    kind: RowKind
    l3_network_uuid: UUID
    start_ip: Address
    end_ip: Address
    prefix_length: int | None = None
    gateway: Address | None = None
    type: str | None = None
    address_mode: str | None = None
    name: str | None = None
    reason: str | None = None
    owner: str | None = None
    mac: str | None = None
    allocated_at: datetime | None = None
    expires_at: datetime | None = None
    uuid: UUID | None = None


def read_row(line: int, values: Mapping[str, Any]) -> StagedRow | list[ImportProblem]:
    """The row, or all that is wrong with it, each column once; null stands for an empty cell."""
    filled = {name: value for name, value in values.items() if value is not None}
    row_type = ROWS.get(filled["kind"]) if isinstance(filled.get("kind"), str) else None
    if row_type is None:
        problem = "is missing" if "kind" not in filled else f"{_shown(filled['kind'])} is none"
        return [_problem(line, "kind", f"{problem}: range, reservation or allocation is wanted")]
    try:
        row = row_type.model_validate(filled, by_alias=True, by_name=False)
    except ValidationError as error:
        return _problems_of(line, error, filled["kind"])
    try:
        return _staged(row)
    except InvalidRequest as error:
        return [problem_of(line, error)]


def range_request(row: StagedRow) -> CreateRange:
    """What a range's line asks for."""
    fields = {
        name: getattr(row, name)
        for name in ("l3_network_uuid", "name", "start_ip", "end_ip", "prefix_length", "gateway", "address_mode")
    }
    return CreateRange.model_validate({**fields, "type": row.type})


def bounds_of_row(row: StagedRow) -> Bounds:
    """Raises:
    InvalidRequest: they are bad by themselves.
    """
    [bounds] = bounds_of(range_request(row))
    return bounds


def problem_of(line: int, error: ViaductError) -> ImportProblem:
    """The refusal of a request, as the problem of the line that stands for it."""
    field = error.details.get("field")
    message = error.message.removeprefix(f"{field}: ")
    return ImportProblem(line=line, field=field, code=error.code, message=message)


def digest_of(values: Mapping[str, Any]) -> bytes:
    """Tells rows apart, whatever the order of their columns."""
    text = json.dumps(values, sort_keys=True, default=str)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _staged(row: RangeRow | ReservationRow | AllocationRow) -> StagedRow:
    """Raises:
    InvalidRequest: its columns do not go together.
    """
    if isinstance(row, AllocationRow):
        if row.allocated_at is not None and row.expires_at is not None and row.expires_at <= row.allocated_at:
            raise InvalidRequest.of_field("expiresAt", "must be after allocatedAt")
        fields = dict(row)
        ip = fields.pop("ip")
        return StagedRow(start_ip=ip, end_ip=ip, **fields)
    staged = StagedRow(**dict(row))
    if isinstance(row, RangeRow):
        bounds_of_row(staged)
    else:
        check_reservation(CreateReservation.model_validate(row.model_dump(exclude={"kind"}, by_alias=False)))
    return staged


def _problems_of(line: int, error: ValidationError, kind: str) -> list[ImportProblem]:
    found: dict[str, str] = {}
    for one in error.errors(include_url=False, include_context=False, include_input=True):
        field = str(one["loc"][0])
        if one["type"] == "extra_forbidden":
            message = f"a line of kind {kind} has no such column"
        elif one["type"] == "missing":
            message = "is missing"
        elif one["type"].startswith("ip_v"):  # each version says that it is not of that version
            message = f"{_shown(one['input'])} is no IP address"
        else:
            message = one["msg"].removeprefix("Value error, ")
        found.setdefault(field, message)
    return [_problem(line, field, message) for field, message in found.items()]


def _problem(line: int, field: str, message: str) -> ImportProblem:
    field = field if len(field) <= MOST_SHOWN else f"{field[:MOST_SHOWN]}..."
    return ImportProblem(line=line, field=_printable(field), code=InvalidRequest.code, message=_printable(message))


def _shown(value: Any) -> str:
    """As much of a value as fits into a message."""
    text = json.dumps(value, default=str)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def _printable(text: str) -> str:
    """It came out of a file: no terminal shall obey it, and Postgres stores no U+0000."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
