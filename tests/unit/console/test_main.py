"""The command line without a control plane: help, types, and what is said when nobody answers."""

import json
import socket
from io import StringIO

import pytest
from rich.console import Console

from viaduct_console.main import run


class Terminal:
    """What a command printed, and how it ended."""

    def __init__(self, *words: str) -> None:
        out, err = StringIO(), StringIO()
        self.status = run(words, Console(file=out, width=160), Console(file=err, width=160))
        self.out, self.err = out.getvalue(), err.getvalue()


@pytest.fixture(autouse=True)
def no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have a broker in their environment."""
    monkeypatch.delenv("VIADUCT_AMQP_URL", raising=False)


@pytest.fixture
def closed_port() -> int:
    """A port of loopback where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def test_without_a_command_the_help_is_shown() -> None:
    """Every command with its sentence."""
    shown = Terminal()

    assert shown.status == 0
    for command in ("status", "request", "types", "operation"):
        assert command in shown.out


def test_types_lists_and_explains() -> None:
    """A list by prefix, the fields of one type, both also as JSON."""
    assert "ip.allocate" in Terminal("types").out
    assert "zone.get" not in Terminal("types", "ip.").out
    assert "requiredIp" in Terminal("types", "ip.allocate").out
    assert {entry["type"] for entry in json.loads(Terminal("types", "zone.g", "-o", "json").out)} == {"zone.get"}
    assert "l2NetworkUuid" in json.loads(Terminal("types", "l2.attach", "-o", "json").out)["properties"]


def test_no_url_says_how_to_give_one() -> None:
    """The first thing that a newcomer meets."""
    shown = Terminal("status")

    assert shown.status == 1
    assert "VIADUCT_AMQP_URL" in shown.err
    assert not shown.out


@pytest.mark.parametrize("words", [("status",), ("request", "zone.query"), ("operation", "0" * 32)])
def test_a_broker_that_is_away_is_no_traceback(words: tuple[str, ...], closed_port: int) -> None:
    """One line, without the password."""
    shown = Terminal(*words, "--url", f"amqp://me:hush@127.0.0.1:{closed_port}/viaduct")

    assert shown.status == 1
    assert shown.err == f"viaduct: no broker at 127.0.0.1:{closed_port}: Connection refused\n"


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1/", "amqp://127.0.0.1:nan/"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    """Before anything is tried."""
    assert "URL of the broker" in Terminal("status", "--url", url).err


def test_a_wrong_request_never_reaches_the_broker() -> None:
    """It is refused with the code and the field that the service would name."""
    shown = Terminal("request", "l2.attach", '{"l2NetworkUuid": 1}')

    assert shown.status == 1
    assert shown.err.startswith("INVALID_REQUEST: l2NetworkUuid")
    assert json.loads(shown.err.partition("\n")[2]) == {"field": "l2NetworkUuid"}
