"""docs/ipam.md: every request of it is sent as it is written, to two IPAM processes that have nothing but a broker and
a database, and what comes back is what it says."""

import asyncio
import json
import re
import textwrap
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from aio_pika.abc import AbstractIncomingMessage
from contract.document import Ask, Hear, Section, code_of, differences, sections_of, to_send
from contract.plain import Plain
from integration.manager.control_plane import Place

from local_stack.service import Service
from viaduct_common.client import ViaductClient
from viaduct_common.messages.registry import IPAM_REQUESTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "ipam.md"
SECTIONS = sections_of(PAGE.read_text())
TITLES = {section.title: section for section in SECTIONS}
NETWORK = TITLES["The network of the examples"]
EVENTS = {"range.created", "range.deleted", "scope.deleted", "scope.filled", "scope.relieved", "ip.expired"}
NETWORKS = ("networkCidr", "gateway", "ranges", "addresses")

SECONDS = 20


@dataclass
class Reader:
    """Somebody who does what the page says. `user` is the one of the page, `events` all that were published."""

    plain: Plain
    user: str
    names: dict[str, str] = field(default_factory=dict)
    events: list[tuple[str, Any]] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    message_id: str = ""

    async def follow(self, steps: Sequence[Ask | Hear]) -> None:
        for step in steps:
            await (self._ask(step) if isinstance(step, Ask) else self._hear(step))

    async def _ask(self, ask: Ask) -> None:
        body = to_send(ask, self.names)
        self.message_id = self.message_id if ask.again else str(uuid4())
        give_up = time.monotonic() + SECONDS
        while True:
            reply = await self._reply(ask.message_type, body)
            outcome, content = ("answer", reply["value"]) if reply["ok"] else ("refusal", reply["error"])
            names = dict(self.names)
            wrong = [] if outcome == ask.outcome else [f"it is no {ask.outcome}: {content}"]
            wrong += differences(json.loads(ask.shown), content, names, datetime.now(UTC))
            if not wrong or not ask.later or time.monotonic() > give_up:
                break
        assert not wrong, f"line {ask.line}, {ask.message_type}: " + "; ".join(wrong)
        self.names = names

    async def _reply(self, message_type: str, body: Any) -> Any:
        return await self.plain.ask(message_type, body, key="ipam", message_id=self.message_id, user_id=self.user)

    async def _hear(self, hear: Hear) -> None:
        shown = json.loads(hear.shown)
        wrong: list[str] = []
        try:
            async with asyncio.timeout(SECONDS):
                while True:
                    for index, (event_type, body) in enumerate(self.events):
                        names = dict(self.names)
                        if event_type != hear.event_type:
                            continue
                        wrong = list(differences(shown, body, names, datetime.now(UTC)))
                        if not wrong:
                            self.names = names
                            del self.events[index]
                            return
                    self.heard.clear()
                    await self.heard.wait()
        except TimeoutError:
            pytest.fail(f"line {hear.line}, {hear.event_type}: " + ("; ".join(wrong) or "it did not come"))

    async def on_event(self, message: AbstractIncomingMessage) -> None:
        self.events.append((str(message.type), json.loads(message.body)))
        self.heard.set()


@pytest.fixture(scope="module")
async def processes(place: Place) -> AsyncIterator[list[Service]]:
    """As the page starts them, and no manager."""
    [roles] = re.findall("VIADUCT_ROLES='(.*?)'", PAGE.read_text())
    alone = {"VIADUCT_ANONYMOUS_ROLE": "", "VIADUCT_ROLES": roles}
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(place.running("ipam", **alone)) for _ in range(2)]


@pytest.fixture(scope="module")
async def compute(place: Place) -> AsyncIterator[Plain]:
    """The client of the page, which has the rights of a client and no others."""
    async with Plain(await place.add_user("compute", "secret")) as plain:
        yield plain


@pytest.fixture
async def reader(processes: list[Service], compute: Plain, plain: Plain) -> AsyncIterator[Reader]:
    """Hears all events, by rights that a client has not."""
    reader = Reader(compute, "compute")
    queue = await plain.channel.declare_queue(exclusive=True)
    await queue.bind("viaduct.events", "#")
    tag = await queue.consume(reader.on_event, no_ack=True)
    yield reader
    await queue.cancel(tag)


# ---- the examples ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", [one for one in SECTIONS if one.steps], ids=str)
async def test_examples_of_a_section_are_so(section: Section, reader: Reader) -> None:
    """Each begins with the network of the examples; if it shows how that fills up, it shows each step."""
    if section is not NETWORK:
        await reader.follow(NETWORK.steps)
    await reader.follow(section.steps)

    if any(isinstance(step, Hear) and step.event_type == "scope.filled" for step in section.steps):
        fills = [body["subject"] for event, body in reader.events if event in {"scope.filled", "scope.relieved"}]
        assert [one for one in fills if one["l3NetworkUuid"] == reader.names["l3"]] == []


ROWS = [row for section in SECTIONS for header, rows in section.tables.items() if header == NETWORKS for row in rows]


@pytest.mark.parametrize(("cidr", "gateway", "ranges", "addresses"), ROWS)
async def test_networks_of_the_table_become_these_ranges(
    cidr: str, gateway: str, ranges: str, addresses: str, reader: Reader
) -> None:
    """A default is a gateway that nobody names; where there is none, it is an address pool."""
    l3 = str(uuid4())
    scope = {"l3NetworkUuid": l3, "l2NetworkUuid": str(uuid4()), "zoneUuid": str(uuid4())}
    await reader.plain.value("scope.register", scope, key="ipam", user_id="compute")
    body = {"l3NetworkUuid": l3, "networkCidr": cidr}
    named = re.fullmatch(r"(\S+) \(default\)", gateway)
    if gateway == "none":
        body["type"] = "addressPool"
    elif named is None:
        body["gateway"] = gateway

    made = await reader.plain.value("range.create", body, key="ipam", user_id="compute")
    uuids = [one["uuid"] for one in made]
    capacity = await reader.plain.value("ip.capacity", {"rangeUuids": uuids}, key="ipam", user_id="compute")

    assert ", ".join(f"{one['startIp']} to {one['endIp']}" for one in made) == ranges
    assert {one["gateway"] for one in made} == {None if gateway == "none" else named[1] if named else gateway}
    power = re.fullmatch(r"2\^(\d+)(?: - (\d+))?", addresses)
    assert capacity["total"] == (2 ** int(power[1]) - int(power[2] or 0) if power else int(addresses))


async def test_python_of_the_page_gets_an_address(compute: Plain, processes: list[Service]) -> None:
    """With the client's own address of the broker instead of the page's."""
    [code] = code_of(PAGE.read_text(), "python")
    names: dict[str, Any] = {"ViaductClient": ViaductClient, "l3": uuid4(), "l2": uuid4(), "zone": uuid4()}
    code = re.sub(r'"amqp://.*?"', repr(compute.url), code)
    exec(f"async def run():\n{textwrap.indent(code, '    ')}\n    return address", names)

    assert str((await names["run"]()).ip) == "10.1.0.2"


async def test_metrics_that_the_page_names_are_served(processes: list[Service]) -> None:
    """Under these names, whatever their labels."""
    [rows] = [rows for (first, *_), rows in TITLES["Metrics"].tables.items() if first == "metric"]
    async with httpx.AsyncClient() as http:
        text = (await http.get(processes[0].base_url + "/metrics")).text
    served = set(re.findall(r"^# TYPE (\S+)", text, flags=re.MULTILINE))

    assert {row[0].partition("{")[0].strip("`") for row in rows} <= served


def test_page_starts_ipam_with_the_settings_that_it_is_tested_with() -> None:
    """Those of the fixture above: the place gives the two addresses, and the rest stands there."""
    named = set(re.findall(r"VIADUCT_[A-Z_]+(?==)", PAGE.read_text()))

    assert named == {"VIADUCT_AMQP_URL", "VIADUCT_POSTGRES_URL", "VIADUCT_ROLES", "VIADUCT_METRICS_LISTEN"}


# ---- the page --------------------------------------------------------------------------------------------------


def test_page_shows_every_request_and_every_event_of_ipam() -> None:
    """None is left to be guessed."""
    steps = [step for section in SECTIONS for step in section.steps]

    assert {step.message_type for step in steps if isinstance(step, Ask)} == set(IPAM_REQUESTS) - {"batch"}
    assert {step.event_type for step in steps if isinstance(step, Hear)} == EVENTS


def test_each_type_is_shown_whole_before_it_is_shown_in_part() -> None:
    """What `...` stands for is on the page."""
    seen: set[tuple[str, str]] = set()
    for step in (step for section in SECTIONS for step in section.steps):
        kind = (step.message_type, step.outcome) if isinstance(step, Ask) else (step.event_type, "event")
        kind = ("any", "refusal") if kind[1] == "refusal" else kind
        assert '"..."' not in step.shown or kind in seen, f"line {step.line}"
        if '"..."' not in step.shown and json.loads(step.shown):
            seen.add(kind)


def test_type_of_each_request_and_event_stands_in_the_text_before_it() -> None:
    """What stands behind the fence is not to be seen in a browser. One like the one before need not be named again."""
    last = ""
    for text, kind, name in re.findall(
        r"(?:^|```\n)((?:(?!```).)*)```json (request|event) (\S+)", PAGE.read_text(), re.DOTALL
    ):
        assert name == last or f"`{name}`" in text, f"{kind} {name} after: {text}"
        last = name


@pytest.mark.parametrize(
    ("text", "instead", "complaint"),
    [
        ('"coolingSeconds": 0', '"coolingSeconds": 1', r"\$\.coolingSeconds is 0, shown is 1"),
        ('"coolingSeconds": 0, ', "", r"\$\.coolingSeconds is not shown: 0"),
        ('"zoneUuid": "<zone>"', '"zoneUuid": "<zone>", "more": 1', r"\$\.more did not come"),
        ('"<l2>"', '"<l3>"', r"\$\.l2NetworkUuid is "),
        ('"<now>"', '"<in 3600 s>"', r"\$\.createdAt is "),
        ('"firstAvailable"', "null", r"\$\.strategy is 'firstAvailable', shown is None"),
    ],
)
async def test_wrong_example_is_found(text: str, instead: str, complaint: str, reader: Reader) -> None:
    """The first answer of the page, spoilt."""
    first = NETWORK.steps[0]
    assert isinstance(first, Ask)
    assert text in first.shown

    with pytest.raises(AssertionError, match=complaint):
        await reader.follow([replace(first, shown=first.shown.replace(text, instead))])


async def test_answer_instead_of_a_refusal_is_found(reader: Reader) -> None:
    """The other way round as well: what was shown would not be all the same."""
    first = NETWORK.steps[0]
    assert isinstance(first, Ask)

    with pytest.raises(AssertionError, match="it is no refusal"):
        await reader.follow([replace(first, outcome="refusal")])


@pytest.mark.parametrize(
    "page",
    [
        "```json request ip.get\n{}\n```\n",
        "```json answer\n{}\n```\n",
        "```json request ip.get\n{}\n```\n```json request ip.get\n{}\n```\n",
        "```json request ip.get twice\n{}\n```\n```json answer\n{}\n```\n",
        "```json request ip.get\n{}\n```\n```json reply\n{}\n```\n",
    ],
)
def test_example_that_would_not_run_is_found(page: str) -> None:
    """A half of a pair, or a word that means nothing."""
    with pytest.raises(ValueError, match=r"line \d+: json"):
        sections_of(page)
