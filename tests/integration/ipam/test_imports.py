"""Imports: every wrong line is named, nothing is done if there is one, and what is done is what requests would do."""

import asyncio
import ipaddress
import re
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from integration.ipam.harness import Ipam, Network
from pydantic import ValidationError

from viaduct_common.client import ViaductClient
from viaduct_common.errors import Conflict, InvalidRequest, NotFound, ViaductError
from viaduct_common.messages.ipam import (
    AddToImport,
    AllocateIp,
    ApplyImport,
    CreateImport,
    CreateRange,
    CreateReservation,
    DeleteImport,
    GetImportProblems,
    ImportLine,
    ImportProblem,
    ImportResult,
    QueryIps,
    UsedIpFilters,
)
from viaduct_common.postgres.pool import Pool
from viaduct_console.exporting import export_rows
from viaduct_console.rowfile import FileRow, read_rows
from viaduct_ipam.model.blocks import BLOCK_SIZE
from viaduct_ipam.store.imports import purge_overdue

Row = dict[str, Any]


async def staged(ipam: Ipam, rows: Sequence[Row], first_line: int = 1) -> UUID:
    """An import that holds these rows, a line each."""
    job = await ipam(CreateImport())
    lines = [ImportLine(line=line, values=row) for line, row in enumerate(rows, first_line)]
    for start in range(0, len(lines), 1000):
        await ipam(AddToImport(import_uuid=job.uuid, rows=lines[start : start + 1000]))
    return job.uuid


async def imported(ipam: Ipam, rows: Sequence[Row], *, dry_run: bool = False) -> ImportResult:
    return await ipam(ApplyImport(import_uuid=await staged(ipam, rows), dry_run=dry_run))


async def exported(ipam: Ipam, *networks: Network) -> list[Row]:
    """What the command line would write."""

    class Net:
        """As much of a client as the export needs."""

        call = ipam.__call__

    rows = export_rows(cast("ViaductClient", Net), [one.l3 for one in networks])
    return [{name: value for name, value in row.items() if value is not None} async for row in rows]


def a_range(network: Network, start: str, end: str, **others: Any) -> Row:
    row = {"kind": "range", "l3NetworkUuid": str(network.l3), "startIp": start, "endIp": end, "prefixLength": 24}
    return {**row, **others}


def a_reservation(network: Network, start: str, end: str, **others: Any) -> Row:
    return {"kind": "reservation", "l3NetworkUuid": str(network.l3), "startIp": start, "endIp": end, **others}


def an_allocation(network: Network, ip: str, **others: Any) -> Row:
    return {"kind": "allocation", "l3NetworkUuid": str(network.l3), "ip": ip, **others}


def places(problems: Iterable[ImportProblem]) -> list[tuple[int, str | None, str]]:
    return [(one.line, one.field, one.code) for one in problems]


# ---- what an import does ---------------------------------------------------------------------------------------------


async def test_all_three_kinds_in_one_file(ipam: Ipam, network: Network) -> None:
    """In any order of lines, with values as JSON or as text; the importer is who allocated."""
    result = await imported(
        ipam,
        [
            an_allocation(network, "10.0.0.20", owner="vm-1", mac="52-54-00-00-00-01"),
            an_allocation(network, "10.0.0.9"),
            a_reservation(network, "10.0.0.1", "10.0.0.20", reason="old"),
            a_reservation(network, "10.0.0.15", "10.0.0.30"),
            a_range(network, "10.0.0.0", "10.0.0.99", prefixLength="24", gateway="10.0.0.1", name="a"),
        ],
    )

    assert (result.applied, result.ranges, result.reservations, result.allocations) == (True, 1, 2, 2)
    assert result.problems == []
    capacity = await network.capacity()
    assert (capacity.total, capacity.used, capacity.reserved, capacity.available) == (98, 2, 27, 69)
    assert await network.ips() == ["10.0.0.31"]
    held = await ipam.pool.fetchrow("SELECT * FROM used_ip WHERE owner = 'vm-1' AND l3_network_uuid = $1", network.l3)
    assert (str(held["mac"]), held["allocated_by"]) == ("52:54:00:00:00:01", "tester")
    assert held["allocated_by_message"] is not None


async def test_what_a_process_remembers_is_read_again(ipam: Ipam, network: Network) -> None:
    """It has just given an address out, and would give the next ones without a look."""
    await network.range(start_ip="10.0.0.1", end_ip="10.0.0.99", prefix_length=24)
    assert await network.ips() == ["10.0.0.1"]
    before = await network.revisions()

    assert (await imported(ipam, [an_allocation(network, f"10.0.0.{n}") for n in range(2, 50)])).applied

    assert await network.revisions() == (before[0] + 1, before[1] + 1)
    assert await network.ips(count=2) == ["10.0.0.50", "10.0.0.51"]


async def test_full_blocks_are_passed_over(ipam: Ipam, network: Network) -> None:
    """Also one that holds nothing but the gateway; see the audit at the end of every test."""
    bounds = {"prefixLength": 20, "gateway": "10.0.8.0"}
    rows = [a_range(network, "10.0.0.0", "10.0.8.0", **bounds), a_range(network, "10.0.8.1", "10.0.15.254", **bounds)]
    taken = [an_allocation(network, str(ipaddress.ip_address("10.0.0.1") + n)) for n in range(2 * BLOCK_SIZE - 1)]

    assert (await imported(ipam, rows + taken)).applied

    assert await network.ips() == ["10.0.8.1"]


async def test_ranges_that_guests_choose_from_may_be_two_lines(ipam: Ipam, network: Network) -> None:
    """A gateway in the middle of a /64 splits it; each half alone would not fill it."""
    await network.range(network_cidr="fd00::/64", gateway="fd00::100", address_mode="slaac")
    rows = await exported(ipam, network)
    other = await ipam.network()

    result = await imported(ipam, [{**row, "l3NetworkUuid": str(other.l3)} for row in rows])

    assert (result.applied, result.ranges) == (True, 2)


async def test_half_of_a_prefix_that_guests_choose_from_is_refused(ipam: Ipam, network: Network) -> None:
    """As by `range.create`."""
    half = a_range(network, "fd00::1", "fd00::ff", prefixLength=64, gateway="fd00::100", addressMode="slaac")

    assert places((await imported(ipam, [half])).problems) == [(1, "endIp", "INVALID_REQUEST")]


async def test_events_tell_of_ranges_and_of_fullness(ipam: Ipam, network: Network) -> None:
    """As the requests would have."""
    rows = [a_range(network, "10.0.0.1", "10.0.0.10"), *(an_allocation(network, f"10.0.0.{n}") for n in range(1, 11))]

    await imported(ipam, rows)

    events = await ipam.pool.fetch(
        "SELECT type FROM outbox WHERE convert_from(body, 'UTF8') LIKE '%' || $1::text || '%' ORDER BY id",
        str(network.l3),
    )
    assert [event["type"] for event in events] == ["range.created", "scope.filled"]


async def test_former_owner_gets_a_cooling_address_back(ipam: Ipam) -> None:
    """Nobody else does."""
    network = await ipam.network(cooling_seconds=600)
    await network.range(start_ip="10.0.0.1", end_ip="10.0.0.9", prefix_length=24)
    await network.allocate(required_ip="10.0.0.3", owner="vm-1")
    await network.release("10.0.0.3")

    refused = await imported(ipam, [an_allocation(network, "10.0.0.3", owner="vm-2")])
    anonymous = await imported(ipam, [an_allocation(network, "10.0.0.3")])
    taken = await imported(ipam, [an_allocation(network, "10.0.0.3", owner="vm-1")])

    assert places(refused.problems) == places(anonymous.problems) == [(1, "ip", "IP_IN_USE")]
    assert taken.applied
    capacity = await network.capacity()
    assert (capacity.used, capacity.cooling) == (1, 0)


async def test_export_can_be_imported_into_an_empty_ipam(ipam: Ipam) -> None:
    """And exported again it is the same: allocations keep their uuids and times, leases end when they would have."""
    one = await ipam.network()
    two = await ipam.network(l2=one.l2)
    for network, third in ((one, 0), (two, 1)):
        await network.range(network_cidr=f"10.0.{third}.0/24", gateway=f"10.0.{third}.100", name=f"n {third}")
        await network.range(start_ip=f"8.8.{third}.1", end_ip=f"8.8.{third}.9", prefix_length=28, type="addressPool")
        await network.range(network_cidr=f"fd00:{third}::/64")
        await network.reserve(f"10.0.{third}.10", f"10.0.{third}.19", reason='"quoted", twice')
        await network.reserve(f"10.0.{third}.10", f"10.0.{third}.10", owner="vm-7", mac="52:54:00:00:00:07")
        await network.allocate(count=300, ip_version=6, owner="pod")
        await network.allocate(count=12, ttl_seconds=3600)
        await network.allocate(required_ip=f"10.0.{third}.10", owner="vm-7")
    rows = await exported(ipam, one, two)
    capacities = [await one.capacity(), await two.capacity()]
    await ipam.pool.execute("TRUNCATE used_ip, reservation, cooling_ip, address_block, ip_range")
    await ipam.pool.execute("UPDATE scope SET revision = revision + 1, layout_revision = layout_revision + 1")

    result = await imported(ipam, rows)

    assert result.problems == []
    assert await exported(ipam, one, two) == rows
    assert [await one.capacity(), await two.capacity()] == capacities


async def test_the_documents_example_is_imported(ipam: Ipam, network: Network) -> None:
    """The file in docs/operations.md, read as the command line reads it."""
    text = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
    [block] = re.findall(r"^```csv\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    file = BytesIO(re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", str(network.l3), block).encode())
    rows = [dict(row.values) for row in read_rows(file, "csv") if isinstance(row, FileRow)]

    result = await imported(ipam, rows)

    assert (result.applied, result.ranges, result.reservations, result.allocations) == (True, 1, 1, 2)


# ---- what is wrong ---------------------------------------------------------------------------------------------------


async def test_every_problem_has_its_line_and_column(ipam: Ipam, network: Network) -> None:
    """All of them, not only the first, and several of one line."""
    await network.range(start_ip="10.0.0.1", end_ip="10.0.0.9", prefix_length=24, gateway="10.0.0.5")
    [used] = await network.allocate(required_ip="10.0.0.9")
    [ended] = await network.allocate(required_ip="10.0.0.8")
    await network.release("10.0.0.8")
    uuid = str(uuid4())
    stranger = Network(ipam, uuid4(), uuid4(), uuid4())
    lines: list[tuple[Row, list[tuple[str | None, str]]]] = [
        ({}, [("kind", "INVALID_REQUEST")]),
        ({"kind": "Range"}, [("kind", "INVALID_REQUEST")]),
        ({"kind": "allocation"}, [("l3NetworkUuid", "INVALID_REQUEST"), ("ip", "INVALID_REQUEST")]),
        (an_allocation(network, "10.0.0.256", mac="x", colour="red"), [
            ("ip", "INVALID_REQUEST"), ("mac", "INVALID_REQUEST"), ("colour", "INVALID_REQUEST")]),
        (an_allocation(network, "10.0.0.2", allocatedAt="2026"), [("allocatedAt", "INVALID_REQUEST")]),
        (an_allocation(network, "10.0.0.2", allocatedAt="2026-01-01T00:00:00"), [("allocatedAt", "INVALID_REQUEST")]),
        (an_allocation(network, "10.0.0.2", allocatedAt="9999-01-01T00:00:00Z"), [("allocatedAt", "INVALID_REQUEST")]),
        (an_allocation(network, "10.0.0.3", allocatedAt="2026-01-02T00:00:00Z", expiresAt="2026-01-01T00:00:00Z"), [
            ("expiresAt", "INVALID_REQUEST")]),
        (an_allocation(stranger, "10.0.0.3"), [("l3NetworkUuid", "NOT_FOUND")]),
        (an_allocation(network, "10.0.1.1"), [("ip", "NOT_IN_RANGE")]),
        (an_allocation(network, "fd00::1"), [("ip", "NOT_IN_RANGE")]),
        (an_allocation(network, "10.0.0.5"), [("ip", "IP_IN_USE")]),
        (an_allocation(network, "10.0.0.9", uuid=str(used.uuid)), [("ip", "IP_IN_USE"), ("uuid", "ALREADY_EXISTS")]),
        (an_allocation(network, "10.0.0.4", uuid=str(ended.uuid)), [("uuid", "ALREADY_EXISTS")]),
        (an_allocation(network, "10.0.0.6", uuid=uuid), []),
        (an_allocation(network, "10.0.0.6"), [("ip", "IP_IN_USE")]),
        (an_allocation(network, "10.0.0.7", uuid=uuid), [("uuid", "ALREADY_EXISTS")]),
        (a_reservation(network, "10.0.0.7", "10.0.0.6"), [("endIp", "INVALID_REQUEST")]),
        (a_reservation(network, "10.0.0.6", "10.0.0.7", owner="vm"), [("owner", "INVALID_REQUEST")]),
        (a_reservation(network, "10.0.0.7", "10.0.0.7", owner="vm-1"), []),
        (a_reservation(network, "10.0.0.7", "10.0.0.7", owner="vm-2"), [("startIp", "CONFLICT")]),
        (a_reservation(network, "10.0.0.7", "10.0.0.7", owner="vm-1"), []),
        (a_range(network, "10.0.0.9", "10.0.0.20"), [("startIp", "IP_RANGE_CONFLICT")]),
        (a_range(network, "10.0.0.20", "10.0.0.30"), []),
        (a_range(network, "10.0.0.30", "10.0.0.40"), [("startIp", "IP_RANGE_CONFLICT")]),
        (a_range(network, "10.0.0.50", "10.0.0.60", gateway="10.0.0.254"), [("gateway", "INVALID_REQUEST")]),
        (a_range(network, "10.0.0.50", "10.0.0.60", prefixLength="25"), [("prefixLength", "INVALID_REQUEST")]),
        (a_range(network, "10.0.0.50", "10.0.0.60", prefixLength="x"), [("prefixLength", "INVALID_REQUEST")]),
        (a_range(network, "127.0.0.1", "127.0.0.9", type="addressPool"), [("startIp", "INVALID_REQUEST")]),
    ]  # fmt: skip

    result = await imported(ipam, [row for row, _ in lines])

    wanted = [(line, field, code) for line, (_, places) in enumerate(lines, 1) for field, code in places]
    assert places(result.problems) == wanted
    assert (result.applied, result.problem_count) == (False, len(wanted))


async def test_unreadable_values_are_problems_whatever_they_are(ipam: Ipam, network: Network) -> None:
    """A file is not ours: no value of it may break anything."""
    values: list[Any] = ["\x00", [], {}, {"a": [1]}, True, 1e308, -1, "x" * 300, "10.0.0.1\x00", "\ud7ff", 2**70]
    rows = [
        {**an_allocation(network, "10.0.0.1"), name: value}
        for name in ("kind", "l3NetworkUuid", "ip", "owner", "mac", "allocatedAt", "uuid", "\x00bad\x1b[31m")
        for value in values
    ]

    result = await imported(ipam, rows)

    assert {one.line for one in result.problems} == set(range(1, len(rows) + 1))
    assert all("\x1b" not in f"{one.field}{one.message}" for one in result.problems)


async def test_all_problems_can_be_paged_through(ipam: Ipam, network: Network) -> None:
    """By line; the answer itself has the first hundred."""
    job = await staged(ipam, [{"kind": "?"} if n % 2 else an_allocation(network, "10.0.0.1") for n in range(1200)])
    result = await ipam(ApplyImport(import_uuid=job))

    found: list[ImportProblem] = []
    after: str | None = None
    while page := await ipam(GetImportProblems(import_uuid=job, limit=250, after=after)):
        found += page.items
        after = page.after
        if after is None:
            break

    assert [one.line for one in found] == list(range(1, 1201))
    assert (result.problem_count, result.problems) == (1200, found[:100])
    with pytest.raises(InvalidRequest):
        await ipam(GetImportProblems(import_uuid=job, after="here"))


async def test_dry_run_finds_the_same_and_waits_for_nobody(ipam: Ipam, network: Network) -> None:
    """Somebody else has the network locked, and has it still when the answer is there."""
    rows = [a_range(network, "10.0.0.1", "10.0.0.9"), an_allocation(network, "10.0.0.9")]
    wrong = [*rows, an_allocation(network, "10.0.0.10")]
    async with ipam.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM scope WHERE l3_network_uuid = $1 FOR UPDATE", network.l3)
        good = await imported(ipam, rows, dry_run=True)
        bad = await imported(ipam, wrong, dry_run=True)

    assert (good.applied, good.problem_count, good.ranges, good.allocations) == (False, 0, 1, 1)
    assert bad.problems == (await imported(ipam, wrong)).problems
    assert await exported(ipam, network) == []


# ---- the stage -------------------------------------------------------------------------------------------------------


async def test_lines_may_come_again_but_not_as_others(ipam: Ipam, network: Network) -> None:
    """A sender that lost an answer sends the rows again, with whatever message id."""
    row = a_range(network, "10.0.0.1", "10.0.0.9")
    lines = [ImportLine(line=7, values=row), ImportLine(line=9, values={"kind": "?"})]
    job = await ipam(CreateImport())
    for _ in range(2):
        added = await ipam(AddToImport(import_uuid=job.uuid, rows=lines))
        assert (added.lines, added.problem_count) == (2, 1)

    with pytest.raises(Conflict) as caught:
        await ipam(AddToImport(import_uuid=job.uuid, rows=[ImportLine(line=7, values={**row, "name": "x"})]))
    with pytest.raises(InvalidRequest):
        await ipam(AddToImport(import_uuid=job.uuid, rows=[lines[0], lines[0]]))

    assert caught.value.details["line"] == 7
    result = await ipam(ApplyImport(import_uuid=job.uuid))
    assert (result.ranges, places(result.problems)) == (1, [(9, "kind", "INVALID_REQUEST")])


async def test_import_is_applied_once(ipam: Ipam, network: Network) -> None:
    """Asked again it tells what it did, and it takes no more rows. One that failed can be tried again."""
    rows = [an_allocation(network, "10.0.0.3")]
    job = await staged(ipam, rows)
    assert not (await ipam(ApplyImport(import_uuid=job))).applied
    await network.range(start_ip="10.0.0.1", end_ip="10.0.0.9", prefix_length=24)

    first = await ipam(ApplyImport(import_uuid=job))
    again = await ipam(ApplyImport(import_uuid=job))

    assert (first.applied, first.problem_count) == (True, 0)
    assert again == first
    with pytest.raises(Conflict):
        await ipam(AddToImport(import_uuid=job, rows=[ImportLine(line=2, values=rows[0])]))
    deleted = await ipam(DeleteImport(import_uuid=job))
    assert deleted is not None
    assert deleted.uuid == job
    assert await ipam(DeleteImport(import_uuid=job)) is None
    assert (await network.capacity()).used == 1


async def test_imports_are_forgotten_after_a_day(ipam: Ipam, network: Network) -> None:
    """With all their rows; younger ones stay."""
    old, young = await staged(ipam, [{}]), await staged(ipam, [{}])
    await ipam.pool.execute("UPDATE import_job SET created_at = now() - interval '25 hours' WHERE uuid = $1", old)

    await purge_overdue(ipam.pool)

    with pytest.raises(NotFound):
        await ipam(ApplyImport(import_uuid=old))
    assert await ipam.pool.fetchval("SELECT count(*) FROM import_row WHERE import_uuid = $1", old) == 0
    assert (await ipam(ApplyImport(import_uuid=young))).problem_count == 1


async def test_allocations_go_on_beside_an_import(ipam: Ipam, network: Network) -> None:
    """Either the import comes first or an allocation does; no address is held twice."""
    await network.range(start_ip="10.0.0.1", end_ip="10.0.3.254", prefix_length=22)
    rows = [an_allocation(network, f"10.0.2.{n}") for n in range(200)]
    job = await staged(ipam, rows)

    async def allocate() -> list[str]:
        got = []
        for _ in range(20):
            got += await network.ips(count=3, strategy="random")
        return got

    result, *given = await asyncio.gather(ipam(ApplyImport(import_uuid=job)), *(allocate() for _ in range(8)))

    taken = [ip for ips in given for ip in ips] + ([row["ip"] for row in rows] if result.applied else [])
    assert len(set(taken)) == len(taken) == (await network.capacity()).used
    if not result.applied:
        wrong = {rows[one.line - 1]["ip"] for one in result.problems}
        assert wrong <= {ip for ips in given for ip in ips}


# ---- any file --------------------------------------------------------------------------------------------------------

# Two L3 networks on one L2 network. Addresses are numbers from BASE on: programs cross the border of a block at 32,
# and the gateway is 16.
BASE = ipaddress.ip_address("10.0.0.0") + BLOCK_SIZE - 32
GATEWAY = str(BASE + 16)
SUBNET = {"prefixLength": 21, "gateway": GATEWAY}
numbers = st.integers(0, 48)
ends = st.tuples(numbers, st.integers(0, 12)).map(lambda pair: (pair[0], min(48, pair[0] + pair[1])))
owners = st.sampled_from([None, "a", "b"])
which = st.sampled_from([0, 0, 0, 1, 1, 2])  # 2: a network that there is not
gateways = st.sampled_from([GATEWAY, GATEWAY, None, str(BASE + 17), "10.0.9.9"])
a_line = st.one_of(
    st.tuples(st.just("range"), which, ends, gateways),
    st.tuples(st.just("reservation"), which, ends, owners),
    st.tuples(st.just("allocation"), which, numbers, owners),
    st.tuples(st.just("allocation"), which, numbers, owners),
    st.tuples(st.just("broken"), which, numbers),
)
# What is there before: where ranges begin and end, and which addresses are used or cool, of which owner.
some = st.lists(st.tuples(numbers, owners), max_size=4)
starts = st.tuples(st.integers(0, 10), st.integers(14, 20), st.integers(22, 30))
befores = st.fixed_dictionaries({"starts": starts, "used": some, "cooling": some})


def ip(number: int) -> str:
    return str(BASE + number)


def row_of(line: tuple[Any, ...], l3_network_uuids: Sequence[UUID]) -> Row:
    kind, network, *values = line
    row = {"kind": kind, "l3NetworkUuid": str(l3_network_uuids[network])}
    if kind == "range":
        (start, end), gateway = values
        return {**row, "startIp": ip(start), "endIp": ip(end), "prefixLength": 21, "gateway": gateway}
    if kind == "reservation":
        (start, end), owner = values
        return {**row, "startIp": ip(start), "endIp": ip(end), "owner": owner}
    if kind == "allocation":
        return {**row, "ip": ip(values[0]), "owner": values[1]}
    return {**row, "kind": "allocation", "ip": f"10.0.0.{values[0]}.1"}


async def refusal(ipam: Ipam, row: Row) -> str | None:
    """Do what one row asks for by its own request; the code of the refusal, if any."""
    fields = {name: value for name, value in row.items() if name != "kind" and value is not None}
    try:
        if row["kind"] == "range":
            await ipam(CreateRange.model_validate(fields))
        elif row["kind"] == "reservation":
            await ipam(CreateReservation.model_validate(fields))
        else:
            fields["requiredIp"] = fields.pop("ip")
            await ipam(AllocateIp.model_validate({**fields, "allowReserved": True}))
    except ValidationError:
        return InvalidRequest.code
    except ViaductError as error:
        return error.code
    return None


async def furnish(ipam: Ipam, before: dict[str, Any]) -> list[Network]:
    """Two networks as they are before the file; the same each time."""
    starts, used, cooling = before["starts"], before["used"], before["cooling"]
    l2 = uuid4()
    networks = [await ipam.network(l2=l2, cooling_seconds=600) for _ in range(2)]
    for network, start, end in ((networks[0], starts[0], starts[1] - 1), (networks[1], starts[1], starts[2])):
        await network.range(start_ip=ip(start), end_ip=ip(end), prefix_length=21, gateway=GATEWAY)
        await network.reserve(ip(start), ip(start), owner="a")
    for (number, owner), is_used in [*((one, True) for one in used), *((one, False) for one in cooling)]:
        row = row_of(("allocation", number % 2, number, owner), [one.l3 for one in networks])
        if await refusal(ipam, row) is None and not is_used:
            await networks[number % 2].release(ip(number))
    return networks


async def content(ipam: Ipam, networks: Sequence[Network]) -> list[Row]:
    """All that is there, but for uuids and times; networks are numbers."""
    by_uuid = {str(one.l3): number for number, one in enumerate(networks)}
    rows = [
        {**row, "l3NetworkUuid": by_uuid[row["l3NetworkUuid"]], "uuid": None, "allocatedAt": None}
        for row in await exported(ipam, *networks)
    ]
    return sorted(rows, key=str)


@settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(before=befores, lines=st.lists(a_line, min_size=1, max_size=24), dry_run=st.booleans())
async def test_any_file_is_judged_as_its_requests_would_be_one_after_the_other(
    pool: Pool, before: dict[str, Any], lines: list[tuple[Any, ...]], dry_run: bool
) -> None:
    """Exactly the lines whose requests are refused are wrong, with the same code, and nothing is done. Without them the
    file is applied, and leaves what the requests have left."""
    async with Ipam(pool) as ipam:
        imports, requests = [await furnish(ipam, before) for _ in range(2)]
        stranger = uuid4()
        rows = [row_of(line, [*(one.l3 for one in imports), stranger]) for line in lines]
        twins = [row_of(line, [*(one.l3 for one in requests), stranger]) for line in lines]
        codes: dict[int, str] = {}
        seen: set[tuple[str, str]] = set()
        for kind in ("range", "reservation", "allocation"):
            for number, twin in enumerate(twins):
                if twin["kind"] == kind and (code := await refusal(ipam, twin)) is not None:
                    codes[number] = code
        for number, twin in enumerate(twins):  # an address stands once in a file, also if its first line is wrong
            if twin["kind"] == "allocation":
                key = (twin["l3NetworkUuid"], twin["ip"])
                assume(key not in seen or number in codes)
                seen.add(key)
        unchanged = await content(ipam, imports)

        result = await imported(ipam, rows, dry_run=dry_run)

        assert {one.line - 1: one.code for one in result.problems} == codes
        assert result.applied == (not codes and not dry_run)
        if not result.applied:
            assert await content(ipam, imports) == unchanged
            right = [row for number, row in enumerate(rows) if number not in codes]
            assert (await imported(ipam, right)).applied
        assert await content(ipam, imports) == await content(ipam, requests)
        for one, other in zip(imports, requests, strict=True):
            assert await one.capacity() == await other.capacity()
        assert await ipam.audit() == []


# ---- size ------------------------------------------------------------------------------------------------------------


def resident_mebibytes() -> float:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * 4096 / 2**20


@pytest.mark.slow
async def test_many_rows_are_never_held_together(ipam: Ipam, network: Network) -> None:
    """A hundred thousand allocations, a third of them wrong and then right: the process does not grow with them."""
    base = ipaddress.ip_address("10.0.0.1")
    wide = a_range(network, "10.0.0.1", "10.7.255.254", prefixLength=13)
    first = await ipam(CreateImport())
    second = await ipam(CreateImport())
    await ipam(AddToImport(import_uuid=second.uuid, rows=[ImportLine(line=1, values=wide)]))
    before = resident_mebibytes()
    for start in range(0, 100_000, 1000):
        rows = [
            ImportLine(line=start + n + 2, values=an_allocation(network, str(base + 3 * (start + n)), owner=f"vm-{n}"))
            for n in range(1000)
        ]
        if start < 34_000:
            await ipam(AddToImport(import_uuid=first.uuid, rows=rows))
        await ipam(AddToImport(import_uuid=second.uuid, rows=rows))
    wrong = await ipam(ApplyImport(import_uuid=first.uuid))
    right = await ipam(ApplyImport(import_uuid=second.uuid))
    grown = resident_mebibytes() - before

    assert (wrong.problem_count, len(wrong.problems)) == (34_000, 100)
    assert (right.applied, right.allocations) == (True, 100_000)
    assert grown < 32, f"{grown:.0f} MiB"
    page = await ipam(QueryIps(filters=UsedIpFilters(l3_network_uuid=network.l3, ip=base + 3 * 99_999)))
    assert len(page.items) == 1
    await ipam(DeleteImport(import_uuid=first.uuid))
    await ipam(DeleteImport(import_uuid=second.uuid))
