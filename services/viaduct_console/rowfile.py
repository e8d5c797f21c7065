"""Files of IPAM rows, as CSV or JSON: read and written a row at a time, however long they are."""

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, BinaryIO, Literal, TextIO

import ijson

from viaduct_common.messages.ipam import AllocationRow, RangeRow, ReservationRow

Format = Literal["csv", "jsonl", "json"]
Values = Mapping[str, Any]

SUFFIXES: Mapping[str, Format] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
# A message holds a thousand rows and no more than a mebibyte; a row is a few hundred bytes.
MOST_ROW_BYTES = 64 * 1024
# In the order in which they are written: what says where comes first.
COLUMNS: tuple[str, ...] = tuple(
    dict.fromkeys(
        field.alias or name
        for row in (RangeRow, ReservationRow, AllocationRow)
        for name, field in row.model_fields.items()
    )
)


@dataclass(frozen=True)
class FileRow:
    """A row, and its line; `size` is about how many bytes it has in a message, `position` where the file is read."""

    line: int
    values: Values
    size: int
    position: int


@dataclass(frozen=True)
class FileProblem:
    """A line that is no row. With `is_end` nothing behind it can be read."""

    line: int
    message: str
    is_end: bool = False


class BadFile(Exception):
    """A file that cannot be read or written at all; the text says why."""


def format_of(name: str, given: Format | None) -> Format:
    """The format that was asked for, or that the name tells.

    Raises:
        BadFile: neither.
    """
    if given is not None:
        return given
    known = SUFFIXES.get(PurePath(name).suffix.lower())
    if known is None:
        raise BadFile(f"is {name} CSV or JSON? Its name does not tell; give --format csv, jsonl or json")
    return known


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_rows(file: BinaryIO, format_: Format) -> Iterator[FileRow | FileProblem]:
    """The rows and the problems of a file, in its order.

    A line is that of the file; in a JSON array it is the number of the element, from 1. JSON that does not begin with a
    bracket is read line by line, whatever it is called.

    Raises:
        BadFile: it has no header that could be one.
    """
    counted = _Counted(file)
    if format_ == "csv":
        return _read_csv(counted)
    buffered = io.BufferedReader(counted)
    if buffered.peek(len(codecs.BOM_UTF8)).startswith(codecs.BOM_UTF8):
        buffered.read(len(codecs.BOM_UTF8))
    if format_ == "json" and buffered.peek(1).lstrip().startswith(b"["):
        return _read_array(buffered, counted)
    return _read_lines(buffered, counted)


class _Counted(io.RawIOBase):
    """Counts what is read of a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)


def _read_csv(counted: _Counted) -> Iterator[FileRow | FileProblem]:
    """RFC 4180, in UTF-8; an empty cell says nothing."""
    text = io.TextIOWrapper(io.BufferedReader(counted), encoding="utf-8-sig", newline="")
    reader = csv.reader(text, strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield FileProblem(line, f"no CSV: {error}")
            continue
        except UnicodeDecodeError as error:
            yield FileProblem(line, f"soon behind this line it is no UTF-8: {error.reason}", is_end=True)
            return
        if cells is None:
            break
        if header is None:
            header = _header_of(cells)
        elif len(cells) > len(header) or (len(cells) < len(header) and cells):
            noun = "cell" if len(cells) == 1 else "cells"
            yield FileProblem(line, f"{len(cells)} {noun}; the header has {len(header)}")
        elif cells:
            values = {name: cell for name, cell in zip(header, cells, strict=True) if cell}
            yield _checked(line, values, counted.position)
    if header is None:
        raise BadFile("the file is empty")


def _header_of(cells: list[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    unknown = [name for name in header if name not in COLUMNS]
    if unknown or "kind" not in header:
        what = f"does not know the column {unknown[0]!r}" if unknown else "misses the column 'kind'"
        raise BadFile(f"the first line must name the columns, and {what}; there are {', '.join(COLUMNS)}")
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise BadFile(f"the first line names the column {twice[0]!r} twice")
    return header


def _read_lines(buffered: BinaryIO, counted: _Counted) -> Iterator[FileRow | FileProblem]:
    """JSON Lines: an object on each line; empty lines are passed over."""
    line = 0
    while text := buffered.readline(MOST_ROW_BYTES):
        line += 1
        if not text.endswith(b"\n") and len(text) == MOST_ROW_BYTES:
            yield FileProblem(line, "a line of JSON is one row; this is far too long", is_end=True)
            return
        if not text.strip():
            continue
        try:
            values = json.loads(text, parse_constant=_no_number)
        except json.JSONDecodeError as error:
            yield FileProblem(line, f"no JSON: {error.msg} at column {error.colno}")
        except (ValueError, RecursionError) as error:
            yield FileProblem(line, f"no JSON: {error}")
        else:
            yield _row_of(line, values, counted.position)


def _read_array(buffered: BinaryIO, counted: _Counted) -> Iterator[FileRow | FileProblem]:
    """One JSON array of objects."""
    number = 0
    try:
        for number, values in enumerate(ijson.items(buffered, "item", use_float=True), start=1):
            yield _row_of(number, values, counted.position)
    except (ijson.JSONError, ValueError) as error:
        reason = " ".join(str(error).split("\n")[0].split())
        yield FileProblem(number + 1, f"no JSON from here on: {reason}", is_end=True)


def _row_of(line: int, values: Any, position: int) -> FileRow | FileProblem:
    if not isinstance(values, dict):
        return FileProblem(line, "an object with the columns of the row is wanted")
    return _checked(line, values, position)


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _checked(line: int, values: Values, position: int) -> FileRow | FileProblem:
    """What no message can carry is a problem here; all else the service judges."""
    try:
        size = len(json.dumps(values, ensure_ascii=False).encode())
    except (UnicodeEncodeError, RecursionError):
        return FileProblem(line, "this is no text")
    return FileRow(line, values, size, position) if size <= MOST_ROW_BYTES else FileProblem(line, "too long for a row")


# ---- writing ---------------------------------------------------------------------------------------------------------


class RowWriter:
    """Writes rows to a text file that does not change line ends; `close` completes the file."""

    def __init__(self, file: TextIO, format_: Format) -> None:
        self._file = file
        self._write: Callable[[Values], None] = {
            "csv": self._write_csv, "jsonl": self._write_line, "json": self._write_element,
        }[format_]  # fmt: skip
        self._end = ""
        self._csv = csv.writer(file)  # RFC 4180: CR LF, quotes where needed
        self._separator = "[\n"
        self.count = 0
        if format_ == "csv":
            self._csv.writerow(COLUMNS)
        elif format_ == "json":
            self._end = "\n]\n"

    def write(self, values: Values) -> None:
        """Values are as in JSON; what is null is left out."""
        self._write(values)
        self.count += 1

    def close(self) -> None:
        self._file.write("[" + self._end if self._end and not self.count else self._end)

    def _write_csv(self, values: Values) -> None:
        self._csv.writerow([values.get(name) for name in COLUMNS])

    def _write_line(self, values: Values) -> None:
        self._file.write(_json(values) + "\n")

    def _write_element(self, values: Values) -> None:
        self._file.write(self._separator + _json(values))
        self._separator = ",\n"


def _json(values: Values) -> str:
    filled = {name: values[name] for name in COLUMNS if values.get(name) is not None}
    return json.dumps(filled, ensure_ascii=False)
