"""A page whose examples can be run: what it asks, what it says comes back, and how the two are compared.

    ```json request ip.allocate        the body of a request; `ip.allocate again`: with the message id of the last one
    ```json answer                     the `value` of its reply; `answer later`: asked again until it is so
    ```json refusal                    the `error` of its reply
    ```json event ip.expired           the body of an event, which comes in its own time
    | `range.create` | code | field |  in each row a request and how it is refused
    | `ip.check` | answer |            or answered

In what is shown, `"<name>"` stands for a uuid or a time that is the same wherever it is named, `"<now>"` and
`"<in 60 s>"` for times, `"<one of 10.0.0.0/24>"` for an address, `"<cursor>"` for any text; `"...": "..."` for fields
that are shown elsewhere, and `"..."` at the end of a list for more items. All else is literal.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any, Literal
from uuid import UUID, uuid4

from markdown_it import MarkdownIt
from markdown_it.token import Token

Outcome = Literal["answer", "refusal"]

MORE = {"...": "..."}
# A busy machine may take so long from a request to its reply.
TOLERANCE = timedelta(seconds=60)
_NAME = re.compile(r"<([a-z][a-z0-9-]*)>")


@dataclass(frozen=True)
class Ask:
    """A request, and what comes of it; `whole` unless it is a row of a table, where the L3 network goes without
    saying."""

    line: int
    message_type: str
    body: str
    outcome: Outcome
    shown: str
    again: bool = False
    later: bool = False
    whole: bool = True


@dataclass(frozen=True)
class Hear:
    """An event that comes."""

    line: int
    event_type: str
    shown: str


@dataclass
class Section:
    """What stands under one heading, in its order; `tables` are those whose rows are no requests, by their headers."""

    title: str
    steps: list[Ask | Hear] = field(default_factory=list)
    tables: dict[tuple[str, ...], list[list[str]]] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.title


# ---- reading ---------------------------------------------------------------------------------------------------


def sections_of(text: str) -> list[Section]:
    """The page, heading by heading.

    Raises:
        ValueError: a request without its answer, or an answer without its request.
    """
    found = [Section("")]
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    request: Token | None = None
    for index, token in enumerate(tokens):
        if token.type == "heading_open" and token.tag == "h2":
            found.append(Section(tokens[index + 1].content))
        elif token.type == "table_open":
            _add_table(found[-1], tokens[index:])
        elif token.type == "fence" and token.info.startswith("json "):
            _, kind, *words = token.info.split()
            if (request is None) != (kind in {"request", "event"}):
                raise ValueError(f"line {_line(token)}: {token.info}: a request and its answer stand together")
            if kind == "request":
                request = token
            elif kind == "event":
                found[-1].steps.append(Hear(_line(token), words[0], token.content))
            else:
                assert request is not None
                found[-1].steps.append(_ask(request, token))
                request = None
    if request is not None:
        raise ValueError(f"line {_line(request)}: {request.info}: it has no answer")
    return found


def _ask(request: Token, answer: Token) -> Ask:
    _, _, message_type, *how = request.info.split()
    _, outcome, *when = answer.info.split()
    if outcome not in {"answer", "refusal"} or how not in ([], ["again"]) or when not in ([], ["later"]):
        raise ValueError(f"line {_line(request)}: {request.info}, {answer.info}")
    return Ask(
        _line(request), message_type, request.content, "answer" if outcome == "answer" else "refusal", answer.content,
        again=bool(how), later=bool(when),
    )  # fmt: skip


def _add_table(section: Section, tokens: Sequence[Token]) -> None:
    end = next(index for index, token in enumerate(tokens) if token.type == "table_close")
    rows: list[list[str]] = []
    lines: list[int] = []
    for token in tokens[:end]:
        if token.type == "tr_open":
            rows.append([])
            lines.append(_line(token))
        elif token.type == "inline":
            rows[-1].append(token.content.strip("`"))
    header, *others = rows
    for line, row in zip(lines[1:], others, strict=True):
        if header[1:3] == ["code", "field"]:
            error = {"code": row[1], "details": {"field": row[2]} | MORE} | MORE
            section.steps.append(Ask(line, header[0], row[0], "refusal", json.dumps(error), whole=False))
        elif header[1:2] == ["answer"]:
            section.steps.append(Ask(line, header[0], row[0], "answer", row[1], whole=False))
        else:
            section.tables.setdefault(tuple(header), []).append(row)


def _line(token: Token) -> int:
    assert token.map is not None
    return token.map[0] + 1


def code_of(text: str, language: str) -> list[str]:
    """The blocks of a language, also those that stand in a list."""
    return [token.content for token in MarkdownIt("commonmark").parse(text) if token.info == language]


# ---- comparing -------------------------------------------------------------------------------------------------


def to_send(ask: Ask, names: dict[str, str]) -> Any:
    """The request's body; a name that nobody has used yet becomes a new uuid."""
    for name in _NAME.findall(ask.body):
        names.setdefault(name, str(uuid4()))
    body = json.loads(_named(ask.body, names))
    return body if ask.whole else {"l3NetworkUuid": names["l3"], **body}


def differences(shown: Any, actual: Any, names: dict[str, str], now: datetime, at: str = "$") -> Iterator[str]:
    """What is not as it is shown, with its path; names that are new get their values here."""
    if isinstance(shown, dict) and isinstance(actual, dict):
        wanted = {key: value for key, value in shown.items() if key != "..."}
        more = set() if "..." in shown else actual.keys() - wanted.keys()
        yield from (f"{at}.{key} is not shown: {actual[key]!r}" for key in sorted(more))
        for key, value in wanted.items():
            if key in actual:
                yield from differences(value, actual[key], names, now, f"{at}.{key}")
            else:
                yield f"{at}.{key} did not come"
    elif isinstance(shown, list) and isinstance(actual, list):
        more_items = shown[-1:] == ["..."]
        shown = shown[: len(shown) - more_items]
        if len(actual) < len(shown) or (len(actual) > len(shown)) != more_items:
            yield f"{at} has {len(actual)} items, {len(shown)} are shown{' and more' if more_items else ''}"
        for index, (one, other) in enumerate(zip(shown, actual, strict=False)):
            yield from differences(one, other, names, now, f"{at}[{index}]")
    elif isinstance(shown, str) and isinstance(actual, str):
        if not _is_shown_text(shown, actual, names, now):
            yield f"{at} is {actual!r}, shown is {_named(shown, names)!r}"
    elif type(shown) is not type(actual) or shown != actual:
        yield f"{at} is {actual!r}, shown is {shown!r}"


def _is_shown_text(shown: str, actual: str, names: dict[str, str], now: datetime) -> bool:
    if shown == "<now>":
        return _is_near(actual, now)
    if (ahead := re.fullmatch(r"<in (\d+) s>", shown)) is not None:
        return _is_near(actual, now + timedelta(seconds=int(ahead[1])))
    if (network := re.fullmatch(r"<one of (.+)>", shown)) is not None:
        return ip_address(actual) in ip_network(network[1])
    if (name := _NAME.fullmatch(shown)) is not None and name[1] not in names:
        names[name[1]] = actual
        return name[1] == "cursor" or _is_uuid(actual) or _is_near(actual, now)
    return _named(shown, names) == actual


def _named(text: str, names: Mapping[str, str]) -> str:
    return _NAME.sub(lambda name: names.get(name[1], name[0]), text)


def _is_near(text: str, moment: datetime) -> bool:
    try:
        return text.endswith("Z") and abs(datetime.fromisoformat(text) - moment) < TOLERANCE
    except ValueError:
        return False


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
