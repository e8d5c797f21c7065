"""`viaduct ipam import` and `export` against the real service, without a manager."""

import asyncio
import csv
import json
import os
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from integration.manager.control_plane import Place
from rich.console import Console

from local_stack.service import Service
from viaduct_common.client import ViaductClient
from viaduct_console.main import run


class Viaduct:
    """The command, as an operator of a place runs it; a thread stands for the process."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def __call__(self, *words: str | Path) -> tuple[int, str, str]:
        out, err = StringIO(newline=""), StringIO()
        arguments = ["ipam", *map(str, words), "--url", self._url]
        status = await asyncio.to_thread(run, arguments, Console(file=out, width=160), Console(file=err, width=160))
        return status, out.getvalue(), err.getvalue()


@pytest.fixture
def viaduct(place: Place, ipam: Service) -> Viaduct:
    return Viaduct(place.amqp_url())


@pytest.fixture
async def net(place: Place, ipam: Service) -> Any:
    async with place.client() as net:
        yield net


async def network(net: ViaductClient, **fields: Any) -> str:
    """The L3 network that a file is about."""
    l3 = uuid4()
    await net.scope.register(**{"l3_network_uuid": l3, "l2_network_uuid": uuid4(), "zone_uuid": uuid4(), **fields})
    return str(l3)


def plan(l3: str) -> str:
    """A file as an operator would write it."""
    return "\n".join([
        "kind,l3NetworkUuid,startIp,endIp,prefixLength,gateway,reason,ip,owner",
        f"range,{l3},10.0.0.1,10.0.0.99,24,10.0.0.1,,,",
        f'reservation,{l3},10.0.0.10,10.0.0.19,,,"printers,\nold",,',
        f"allocation,{l3},,,,,,10.0.0.10,printer-1",
        f"allocation,{l3},,,,,,10.0.0.20,vm-1",
    ])  # fmt: skip


async def test_a_file_goes_in_and_comes_out(viaduct: Viaduct, net: ViaductClient, tmp_path: Path) -> None:
    """Tried first, then imported, then exported in all formats; they say the same."""
    l3 = await network(net)
    file = tmp_path / "plan.csv"
    file.write_text(plan(l3))

    tried = await viaduct("import", file, "--dry-run")
    assert await viaduct("export", "-f", "jsonl", "--l3", l3) == (0, "", "")
    done = await viaduct("import", file)
    again = await viaduct("import", file)

    assert tried == (0, "nothing is wrong  1 range, 1 reservation and 2 allocations would be imported\n", "")
    assert done == (0, "imported  1 range, 1 reservation and 2 allocations\n", "")
    assert again[0] == 1
    assert "IP_RANGE_CONFLICT" in again[1]
    rows = {}
    for suffix in ("csv", "jsonl", "json"):
        exported = tmp_path / f"out.{suffix}"
        assert await viaduct("export", exported, "--l3", l3) == (0, "", "")
        rows[suffix] = exported.read_bytes().decode()
    assert sorted(os.listdir(tmp_path)) == ["out.csv", "out.json", "out.jsonl", "plan.csv"]
    lines = [json.loads(line) for line in rows["jsonl"].splitlines()]
    assert json.loads(rows["json"]) == lines
    read = csv.DictReader(StringIO(rows["csv"], newline=""))
    assert [{name: cell for name, cell in row.items() if cell} for row in read] == [
        {name: str(value) for name, value in line.items()} for line in lines
    ]
    assert [(line["kind"], line.get("ip"), line.get("owner"), line.get("reason")) for line in lines] == [
        ("range", None, None, None),
        ("reservation", None, None, "printers,\nold"),
        ("allocation", "10.0.0.10", "printer-1", None),
        ("allocation", "10.0.0.20", "vm-1", None),
    ]


async def test_wrong_lines_are_shown_and_nothing_is_imported(
    viaduct: Viaduct, net: ViaductClient, tmp_path: Path
) -> None:
    """Those that the command cannot read and those that the service refuses, in the order of the file."""
    l3 = await network(net)
    file = tmp_path / "plan.csv"
    file.write_text(plan(l3) + f"\nallocation,{l3}\nallocation,{l3},,,,,,10.0.0.1,vm-2\nallocation,,,,,,,10.0.0.30,\n")

    status, out, _ = await viaduct("import", file)
    _, short, _ = await viaduct("import", file, "--show", "1")
    _, machine, _ = await viaduct("import", file, "-o", "json")

    assert status == 1
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[1:] == [
        "7 INVALID_REQUEST 2 cells; the header has 9",
        "8 ip IP_IN_USE 10.0.0.1 is the gateway",
        "9 l3NetworkUuid INVALID_REQUEST is missing",
        "3 problems nothing was imported",
    ]
    assert "the first 1 are shown" in short
    assert "IP_IN_USE" not in short
    assert [one["line"] for one in json.loads(machine)["problems"]] == [7, 8, 9]
    assert (await net.ip.capacity(l3_network_uuids=[l3])).total == 0


async def test_many_messages_of_rows_arrive_whole(viaduct: Viaduct, net: ViaductClient, tmp_path: Path) -> None:
    """More than one page of problems is fetched, if so many are to be shown."""
    l3 = await network(net)
    file = tmp_path / "rows.jsonl"
    allocation = {"kind": "allocation", "l3NetworkUuid": l3}
    ips = [f"10.0.{n // 200}.{n % 200 + 1}" for n in range(3500)]
    file.write_text("".join(json.dumps({**allocation, "ip": ip}) + "\n" for ip in ips))

    _, out, _ = await viaduct("import", file, "-o", "json", "--show", "5000")
    await net.range.create(l3_network_uuid=l3, network_cidr="10.0.0.0/16", gateway="10.0.255.1")
    _, done, _ = await viaduct("import", file)
    status, lines, _ = await viaduct("export", "--format", "jsonl", "--l3", l3)

    assert [one["line"] for one in json.loads(out)["problems"]] == list(range(1, 3501))
    assert done == "imported  0 ranges, 0 reservations and 3500 allocations\n"
    assert status == 0
    assert [row.get("ip") for row in map(json.loads, lines.splitlines())][2:] == ips


async def test_export_of_a_zone_has_its_networks_alone(viaduct: Viaduct, net: ViaductClient) -> None:
    """A network that is not there is refused, and leaves no file."""
    zone = uuid4()
    inside, outside = await network(net, zone_uuid=zone), await network(net)
    for l3 in (inside, outside):
        await net.range.create(l3_network_uuid=l3, network_cidr="10.0.0.0/24")

    _, out, _ = await viaduct("export", "-f", "jsonl", "--zone", str(zone))
    status, _, err = await viaduct("export", "-f", "json", "--l3", outside, "--zone", str(zone))

    assert {json.loads(line)["l3NetworkUuid"] for line in out.splitlines()} == {inside}
    assert status == 1
    assert err.startswith("NOT_FOUND: ")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["import", "plan.txt"], "is plan.txt CSV or JSON?"),
        (["import", "no/such.csv"], "cannot read no/such.csv: No such file or directory"),
        (["import", "-f", "csv", "."], "cannot read .: Is a directory"),
        (["export", "no/such.csv"], "cannot write no/such.csv.part: No such file or directory"),
    ],
)
async def test_files_that_cannot_be_used_are_one_line(viaduct: Viaduct, words: list[str], reason: str) -> None:
    """No traceback, and no message is sent."""
    status, out, err = await viaduct(*words)

    assert (status, out) == (1, "")
    assert err.startswith(f"viaduct: {reason}")
    assert err.count("\n") == 1


async def test_file_without_a_header_is_refused(viaduct: Viaduct, tmp_path: Path) -> None:
    """It says which columns there are."""
    file = tmp_path / "plan.csv"
    file.write_text("kind,address\n")

    status, _, err = await viaduct("import", file)

    assert status == 1
    assert "does not know the column 'address'; there are kind, l3NetworkUuid," in err
