"""Query pages by keyset: the cursor holds the last row's sort value and key, so a page costs the same anywhere.

A `Listing` is put together from constants only; what a client sends arrives as parameters.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from viaduct_common.errors import InvalidRequest
from viaduct_common.messages.base import QueryBody, WireModel
from viaduct_common.postgres.pool import Connection


@dataclass(frozen=True)
class Column:
    """`expression` in SQL, never null, and the SQL type that a filter or cursor value is cast to.

    `condition` replaces the usual filter (any of the values); `{}` in it is the array of them. The row is `page`.
    """

    expression: str
    sql_type: str
    condition: str | None = None


@dataclass(frozen=True)
class Listing:
    """What can be listed.

    Args:
        select: `SELECT ... FROM ...`, complete but for WHERE; conditions that always hold go to `where`.
        columns: by wire name (camelCase): what can be filtered and sorted by.
        key: the unique column, as an expression; of type uuid, and the last sort key of every listing. A key of
            several columns is one text expression.
    """

    select: str
    columns: Mapping[str, Column]
    key: Column
    default_sort: str
    where: str = "true"


@dataclass(frozen=True)
class Rows:
    rows: list[Any]
    after: str | None


async def list_page(connection: Connection, listing: Listing, query: QueryBody, filters: WireModel) -> Rows:
    """One page of rows.

    Raises:
        InvalidRequest: a sort field that does not exist, or a cursor that is not ours.
    """
    conditions, arguments = [listing.where], list[Any]()
    for name, value in filters.model_dump(exclude_none=True, mode="json").items():
        column = listing.columns[name]
        values = [str(one) for one in (value if isinstance(value, list) else [value])]
        if len(values) == 1 and column.condition is None:
            # Not ANY: only an equality lets an index on this column and the sort column give the rows in order.
            arguments.append(values[0])
            conditions.append(f"{column.expression} = ${len(arguments)}::text::{column.sql_type}")
        else:
            arguments.append(values)
            array = f"${len(arguments)}::text[]::{column.sql_type}[]"
            conditions.append((column.condition or f"{column.expression} = ANY({{}})").format(array))
    sort, descending = _sort_of(listing, query.sort)
    if query.after:
        value, key = _decode(query.after)
        arguments += [value, key]
        conditions.append(
            f"({sort.expression}, {listing.key.expression}) {'<' if descending else '>'} "
            f"(${len(arguments) - 1}::text::{sort.sql_type}, ${len(arguments)}::text::{listing.key.sql_type})"
        )
    direction = "DESC" if descending else "ASC"
    arguments.append(query.limit + 1)
    sql = (
        f"SELECT page.*, {sort.expression}::text AS sort_, {listing.key.expression}::text AS key_ "
        f"FROM ({listing.select}) AS page WHERE {' AND '.join(conditions)} "
        f"ORDER BY {sort.expression} {direction}, {listing.key.expression} {direction} LIMIT ${len(arguments)}"
    )
    try:
        rows = await connection.fetch(sql, *arguments)
    except asyncpg.DataError as error:
        if query.after is None:
            raise
        # The filters are typed; what was made up by somebody can only be the cursor.
        raise _bad_cursor() from error
    more = len(rows) > query.limit
    rows = rows[: query.limit]
    return Rows(rows, _encode(rows[-1]["sort_"], rows[-1]["key_"]) if more else None)


def _sort_of(listing: Listing, sort: str | None) -> tuple[Column, bool]:
    name = listing.default_sort if sort is None else sort
    descending = name.startswith("-")
    column = listing.columns.get(name.removeprefix("-"))
    if column is None:
        raise InvalidRequest.of_field("sort", f"sort by one of {', '.join(sorted(listing.columns))}")
    return column, descending


def _encode(value: str, key: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([value, key]).encode()).decode()


def _decode(cursor: str) -> tuple[str, str]:
    try:
        value, key = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        return str(value), str(key)
    except (ValueError, TypeError, RecursionError, binascii.Error):
        raise _bad_cursor() from None


def _bad_cursor() -> InvalidRequest:
    return InvalidRequest.of_field("after", "not a cursor of this query")
