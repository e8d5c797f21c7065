"""The ranges of an import, judged one after the other: each beside those that are stored, and the right ones before it.

For each line the store is asked only for what can matter to it; so neither a file nor an L3 network with very many
ranges is ever held in memory.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from viaduct_common.errors import ViaductError
from viaduct_common.messages.ipam import ImportProblem
from viaduct_common.postgres.pool import Connection
from viaduct_ipam.model.imports import StagedRow, bounds_of_row, problem_of, range_request
from viaduct_ipam.model.ranges import Bounds
from viaduct_ipam.model.siblings import beside
from viaduct_ipam.store.imports import PATIENCE_SECONDS, add_problems

# Ranges of a chunk are compared with each other one by one.
RANGE_CHUNK_ROWS = 200

_FORGET_RANGES = "DELETE FROM import_range WHERE import_uuid = $1"
_RANGE_ROWS = """
    SELECT it.*, it.mac::text AS mac, scope.l2_network_uuid
    FROM import_row AS it JOIN scope USING (l3_network_uuid)
    WHERE it.import_uuid = $1 AND it.kind = 'range' AND it.line > $2
    ORDER BY it.line LIMIT $3
"""
_AS_RANGE = "one.type, one.start_ip, one.end_ip, one.prefix_length, one.gateway, one.address_mode"


_SPANS_OVERLAP = "one.span && address_span(new.start_ip, new.end_ip, '[]')"
# Those that are there do not overlap each other: so if any does this one, it is the last that begins before its end.
_LAST_BEFORE_ITS_END = "one.start_ip <= new.end_ip ORDER BY one.start_ip DESC"


def _neighbours(table: str, name: str, own: str, overlaps: str) -> str:
    """`name` is how a message calls one; `own` is a condition on the table, with its AND."""
    return f"""
        (SELECT 'overlaps' AS why, {name} AS called, {_AS_RANGE} FROM {table} AS one
         WHERE {own} one.l2_network_uuid = new.l2_network_uuid AND {overlaps} LIMIT 1)
        UNION ALL
        (SELECT 'normal', {name}, {_AS_RANGE} FROM {table} AS one
         WHERE {own} one.l3_network_uuid = new.l3_network_uuid AND one.type = 'normal'
           AND family(one.start_ip) = family(new.start_ip)
         ORDER BY one.start_ip LIMIT 1)
        UNION ALL
        (SELECT 'holds its gateway', {name}, {_AS_RANGE} FROM {table} AS one
         WHERE {own} one.l3_network_uuid = new.l3_network_uuid AND one.start_ip <= new.gateway
         ORDER BY one.start_ip DESC LIMIT 1)
        UNION ALL
        (SELECT DISTINCT ON (one.gateway) 'has its gateway in it', {name}, {_AS_RANGE} FROM {table} AS one
         WHERE {own} one.l3_network_uuid = new.l3_network_uuid
           AND one.gateway >= new.start_ip AND one.gateway <= new.end_ip
           AND one.gateway IS DISTINCT FROM new.gateway
         ORDER BY one.gateway LIMIT 2)
    """


_NEIGHBOURS = f"""
    SELECT new.line, other.*
    FROM unnest($2::integer[], $3::uuid[], $4::uuid[], $5::inet[], $6::inet[], $7::inet[])
      AS new (line, l3_network_uuid, l2_network_uuid, start_ip, end_ip, gateway)
    CROSS JOIN LATERAL (
        {_neighbours("ip_range", "'range ' || one.uuid", "", _SPANS_OVERLAP)}
        UNION ALL
        {_neighbours("import_range", "'line ' || one.line", "one.import_uuid = $1 AND", _LAST_BEFORE_ITS_END)}
    ) AS other
"""
# Ranges that must fill their subnet: a gateway in its middle makes them two, so two lines.
_FILLERS = f"""
    SELECT true AS stored, {_AS_RANGE} FROM ip_range AS one
    WHERE one.l3_network_uuid = $2 AND one.type = 'normal' AND family(one.start_ip) = 6
    UNION ALL
    SELECT false, {_AS_RANGE} FROM import_row AS one
    WHERE one.import_uuid = $1 AND one.l3_network_uuid = $2 AND one.kind = 'range' AND one.type = 'normal'
      AND one.address_mode IN ('slaac', 'statelessDhcp') AND one.line <> $3
      AND one.prefix_length = $4 AND one.gateway IS NOT DISTINCT FROM $5::inet
"""
_ADD_RANGES = """
    INSERT INTO import_range (import_uuid, line, l3_network_uuid, l2_network_uuid, name, type, start_ip, end_ip,
                              prefix_length, gateway, address_mode)
    SELECT $1, * FROM unnest($2::integer[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::inet[], $8::inet[],
                             $9::smallint[], $10::inet[], $11::text[])
"""


async def check_ranges(connection: Connection, import_uuid: UUID) -> None:
    """Note the problems of ranges; those that have none are in `import_range` then, as they will be stored."""
    await connection.execute(_FORGET_RANGES, import_uuid, timeout=PATIENCE_SECONDS)
    after = 0
    while rows := await connection.fetch(_RANGE_ROWS, import_uuid, after, RANGE_CHUNK_ROWS):
        after = rows[-1]["line"]
        chunk = _RangeChunk(connection, import_uuid, rows)
        await chunk.judge()
        await add_problems(connection, import_uuid, chunk.problems, of_apply=True)
        await connection.execute(_ADD_RANGES, import_uuid, *chunk.columns())


class _RangeChunk:
    """The ranges of some lines, and what was found right and wrong so far."""

    def __init__(self, connection: Connection, import_uuid: UUID, rows: Sequence[Any]) -> None:
        self.problems: list[ImportProblem] = []
        self._connection = connection
        self._import_uuid = import_uuid
        self._rows = rows
        self._right: list[tuple[Any, Bounds]] = []
        self._of_l2: dict[UUID, list[tuple[str, Bounds]]] = defaultdict(list)
        self._of_l3: dict[UUID, list[Bounds]] = defaultdict(list)

    async def judge(self) -> None:
        others: dict[int, list[Any]] = defaultdict(list)
        for other in await self._connection.fetch(
            _NEIGHBOURS, self._import_uuid, *_columns(self._rows, "line", "l3_network_uuid", "l2_network_uuid",
                                                      "start_ip", "end_ip", "gateway")
        ):  # fmt: skip
            others[other["line"]].append(other)
        for row in self._rows:
            wanted = bounds_of_row(_staged(row))
            overlapped = [
                *((other["called"], _bounds(other)) for other in others[row["line"]] if other["why"] == "overlaps"),
                *self._of_l2[row["l2_network_uuid"]],
            ]
            named = next((called for called, one in overlapped if _overlap(wanted, one)), None)
            if named is not None:
                self._wrong(row, "startIp", "IP_RANGE_CONFLICT", f"overlaps {named} on the same L2 network")
                continue
            siblings = [_bounds(other) for other in others[row["line"]] if other["why"] != "overlaps"]
            await self._judge_beside(row, wanted, [*siblings, *self._of_l3[row["l3_network_uuid"]]])

    async def _judge_beside(self, row: Any, wanted: Bounds, siblings: list[Bounds]) -> None:
        together = [wanted]
        if wanted.address_mode in {"slaac", "statelessDhcp"}:
            near = await self._connection.fetch(
                _FILLERS, self._import_uuid, row["l3_network_uuid"], row["line"], wanted.prefix_length, wanted.gateway
            )
            siblings += [_bounds(other) for other in near if other["stored"]]
            lines = [_bounds(other) for other in near if not other["stored"]]
            together += [one for one in lines if one.network == wanted.network]
        try:
            bounds = beside(together, siblings, range_request(_staged(row)))[0]
        except ViaductError as error:
            self.problems.append(problem_of(row["line"], error))
            return
        self._right.append((row, bounds))
        self._of_l2[row["l2_network_uuid"]].append((f"line {row['line']}", bounds))
        self._of_l3[row["l3_network_uuid"]].append(bounds)

    def columns(self) -> list[list[Any]]:
        """What was found right, as `import_range` has it."""
        rows = [row for row, _ in self._right]
        bounds = [one for _, one in self._right]
        return [
            *_columns(rows, "line", "l3_network_uuid", "l2_network_uuid", "name"),
            [one.type for one in bounds],
            [one.first for one in bounds],
            [one.last for one in bounds],
            [one.prefix_length for one in bounds],
            [one.gateway for one in bounds],
            [one.address_mode for one in bounds],
        ]

    def _wrong(self, row: Any, field: str, code: str, message: str) -> None:
        self.problems.append(ImportProblem(line=row["line"], field=field, code=code, message=message))


def _columns(rows: Sequence[Any], *names: str) -> list[list[Any]]:
    return [[row[name] for row in rows] for name in names]


def _staged(row: Any) -> StagedRow:
    return StagedRow(**{name: row[name] for name in StagedRow.__dataclass_fields__})


def _bounds(row: Any) -> Bounds:
    return Bounds(
        row["type"], row["start_ip"], row["end_ip"], row["prefix_length"], row["gateway"], row["address_mode"]
    )


def _overlap(one: Bounds, other: Bounds) -> bool:
    return one.version == other.version and int(one.first) <= int(other.last) and int(other.first) <= int(one.last)
