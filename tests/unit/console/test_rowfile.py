"""Files of rows: what is read, what is a problem of which line, and that what is written is read again."""

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viaduct_console.rowfile import (
    COLUMNS,
    MOST_ROW_BYTES,
    BadFile,
    FileProblem,
    FileRow,
    Format,
    RowWriter,
    format_of,
    read_rows,
)

HEADER = b"kind,ip,owner\r\n"


def read(content: bytes, format_: Format) -> list[tuple[int, Any]]:
    """Line and values of rows, line and text of problems."""
    return [
        (one.line, dict(one.values) if isinstance(one, FileRow) else one.message)
        for one in read_rows(io.BytesIO(content), format_)
    ]


def written(rows: list[dict[str, Any]], format_: Format) -> bytes:
    text = io.StringIO(newline="")
    writer = RowWriter(text, format_)
    for row in rows:
        writer.write(row)
    writer.close()
    assert writer.count == len(rows)
    return text.getvalue().encode()


# ---- CSV -------------------------------------------------------------------------------------------------------------


def test_csv_lines_are_those_of_the_file() -> None:
    """Also behind a quoted cell of several lines and an empty line."""
    content = HEADER + b'allocation,10.0.0.1,"two\r\nlines, ""quoted"""\r\n\r\nallocation,10.0.0.2,\r\n'

    assert read(content, "csv") == [
        (2, {"kind": "allocation", "ip": "10.0.0.1", "owner": 'two\r\nlines, "quoted"'}),
        (5, {"kind": "allocation", "ip": "10.0.0.2"}),
    ]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_csv_of_any_program_is_read(mark: bytes, end: bytes) -> None:
    """With a byte order mark, spaces in the header, and either end of line; the last line may have none."""
    assert read(mark + b"kind, ip" + end + "range,é".encode(), "csv") == [(2, {"kind": "range", "ip": "é"})]


def test_csv_problems_name_their_lines_and_do_not_end_the_file() -> None:
    """Too few cells, too many, quotes that are none."""
    content = HEADER + b'range\r\nrange,1,2,3\r\nrange,"1"x,2\r\nrange,1,2\r\n'

    assert read(content, "csv") == [
        (2, "1 cell; the header has 3"),
        (3, "4 cells; the header has 3"),
        (4, "no CSV: ',' expected after '\"'"),
        (5, {"kind": "range", "ip": "1", "owner": "2"}),
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"kind,IP\n", "does not know the column 'IP'"),
        (b"ip,owner\n", "misses the column 'kind'"),
        (b"kind,ip,ip\n", "'ip' twice"),
        (b'{"kind": "range"}\n', "does not know the column"),
    ],
)
def test_csv_needs_a_header(content: bytes, reason: str) -> None:
    """It is refused before anything is sent."""
    with pytest.raises(BadFile, match=reason):
        read(content, "csv")


def test_csv_that_is_no_utf_8_ends_with_a_problem() -> None:
    """What it would have been cannot be known."""
    *_, last = read_rows(io.BytesIO(HEADER + b"range,\xff,\n"), "csv")

    assert isinstance(last, FileProblem)
    assert last.is_end


# ---- JSON ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["jsonl", "json"])
def test_json_lines_are_read_under_either_name(format_: Format) -> None:
    """An object on each line; a line that is none is a problem of its own."""
    content = b'\xef\xbb\xbf{"kind": "range"}\n\nnonsense\n[1]\n{"ip": NaN}\n{"owner": "\\ud800"}\n{"kind": null}'

    assert read(content, format_) == [
        (1, {"kind": "range"}),
        (3, "no JSON: Expecting value at column 1"),
        (4, "an object with the columns of the row is wanted"),
        (5, "no JSON: NaN is no number"),
        (6, "this is no text"),
        (7, {"kind": None}),
    ]


def test_json_array_counts_its_elements() -> None:
    """A syntax error ends it."""
    content = b' \n[{"kind": "range", "prefixLength": 24},\n 7, {"kind": "x"}, {"kind" '

    rows = read(content, "json")

    assert rows[:3] == [
        (1, {"kind": "range", "prefixLength": 24}),
        (2, "an object with the columns of the row is wanted"),
        (3, {"kind": "x"}),
    ]
    assert rows[3][0] == 4
    assert rows[3][1].startswith("no JSON from here on")


def test_one_endless_line_is_not_read_into_memory() -> None:
    """Such as a JSON array that is called JSON Lines."""

    class Endless(io.RawIOBase):
        served = 0

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            Endless.served += size
            return b"[" * size

    [problem] = read_rows(Endless(), "jsonl")  # type: ignore[arg-type]  # as much of a file as is used

    assert isinstance(problem, FileProblem)
    assert problem.is_end
    assert Endless.served < 4 * MOST_ROW_BYTES


def test_a_row_that_no_message_takes_is_a_problem() -> None:
    """The others are read."""
    too_long = json.dumps({"reason": "x" * MOST_ROW_BYTES})
    assert read(f'[{too_long}, {{"kind": "range"}}]'.encode(), "json") == [
        (1, "too long for a row"),
        (2, {"kind": "range"}),
    ]


# ---- both ways -------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
rows = st.lists(
    st.dictionaries(st.sampled_from(COLUMNS), texts, min_size=1).map(lambda row: {**row, "kind": "range"}), max_size=8
)


@given(rows=rows)
@pytest.mark.parametrize("format_", ["csv", "jsonl", "json"])
def test_what_is_written_is_read_again(rows: list[dict[str, Any]], format_: Format) -> None:
    """Whatever text the cells hold."""
    found = read(written(rows, format_), format_)

    assert [values for _, values in found] == rows


def test_csv_is_written_as_rfc_4180_says() -> None:
    """A header, CR LF, and quotes where they are needed; nothing for null."""
    content = written([{"kind": "reservation", "reason": 'a "b", c', "owner": None}], "csv").decode()

    assert content.endswith('\r\nreservation,,,,,,,,,"a ""b"", c",,,,,,\r\n')
    assert next(csv.reader(io.StringIO(content, newline=""))) == list(COLUMNS)


def test_json_is_an_array_also_without_rows() -> None:
    """Programs that read the whole file get what they expect."""
    assert json.loads(written([], "json")) == []
    assert json.loads(written([{"kind": "range", "prefixLength": 24, "name": None}], "json")) == [
        {"kind": "range", "prefixLength": 24}
    ]
    assert written([], "jsonl") == b""


def test_name_tells_the_format() -> None:
    """Else it has to be said."""
    assert [format_of(name, None) for name in ("a.csv", "b.JSONL", "c.ndjson", "d.json")] == [
        "csv",
        "jsonl",
        "jsonl",
        "json",
    ]
    assert format_of("-", "csv") == "csv"
    with pytest.raises(BadFile, match="--format"):
        format_of("-", None)
