"""What surrounds the agent: settings, systemd, health, plugins."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from viaduct_agent.backends.api import GROUP, Registry
from viaduct_agent.backends.vlan import VlanBackend
from viaduct_agent.health import health_facts
from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.watch import Changed
from viaduct_agent.main import main
from viaduct_agent.notify import Notifier
from viaduct_agent.settings import BadSettings, load_settings
from viaduct_agent.testing import FakeKernel
from viaduct_common.errors import UnsupportedType
from viaduct_common.plugins import PluginError, load_plugins

GOOD = f'host_uuid = "{UUID(int=7)}"\namqp_url = "amqp://broker:5672/viaduct"\n'


def test_settings_have_defaults_and_the_user_is_the_host(tmp_path: Path) -> None:
    """A file of three lines is enough."""
    (tmp_path / "secret").write_text("hush\n")
    path = tmp_path / "agent.toml"
    path.write_text(f'{GOOD}password_file = "{tmp_path}/secret"\n[interface_map]\nstorage = "eth2"\n')
    settings = load_settings(path)
    assert settings.broker_user == str(settings.host_uuid)
    assert settings.password() == "hush"
    assert settings.heartbeat_seconds == 10
    assert settings.interface_map == {"storage": "eth2"}
    assert settings.drift == "repair"


def test_the_password_may_be_a_systemd_credential(tmp_path: Path) -> None:
    """LoadCredential=amqp_password:..."""
    (tmp_path / "amqp_password").write_text("hush")
    path = tmp_path / "agent.toml"
    path.write_text(GOOD)
    assert load_settings(path).password({"CREDENTIALS_DIRECTORY": str(tmp_path)}) == "hush"
    with pytest.raises(BadSettings, match="password_file"):
        load_settings(path).password({})


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ("x = ", "no TOML"),
        ('amqp_url = "amqp://b"', "host_uuid"),
        (GOOD + "heartbeat = 3", "heartbeat"),
        (GOOD + "heartbeat_seconds = 0", "heartbeat_seconds"),
        (GOOD + 'drift = "ignore"', "drift"),
        (GOOD.replace("broker:", "user:secret@broker:"), "credentials"),
        (GOOD.replace("amqp:", "http:"), "amqp_url"),
        (GOOD + '[interface_map]\na = "much-too-long-a-name"', "interface_map.a"),
    ],
)
def test_bad_settings_are_one_line_and_exit_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, culprit: str
) -> None:
    """The line names the file and the culprit, and no secret."""
    path = tmp_path / "agent.toml"
    path.write_text(text)
    assert main(["--config", str(path)]) == 2
    error = capsys.readouterr().err
    assert culprit in error
    assert str(path) in error
    assert error.count("\n") == 1
    assert "secret" not in error


def test_a_missing_file_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback."""
    assert main(["--config", str(tmp_path / "none")]) == 2
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_what_is_said(tmp_path: Path, abstract: bool) -> None:
    """By path or by abstract name."""
    name = f"viaduct-{uuid4()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind("\0" + name if abstract else name)
        Notifier({"NOTIFY_SOCKET": "@" + name if abstract else name}).send(ready="1", status="ok")
        assert server.recv(1000) == b"READY=1\nSTATUS=ok"


def test_without_systemd_nothing_is_said_and_nothing_fails() -> None:
    """Started by hand."""
    Notifier({}).send(ready="1")
    Notifier({"NOTIFY_SOCKET": "/nonexistent/socket"}).send(ready="1")


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [({}, None), ({"WATCHDOG_USEC": "30000000"}, 15), ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None)],
)
def test_the_watchdog_is_fed_twice_as_often_as_asked(environ: dict[str, str], seconds: float | None) -> None:
    """Unless it waits for another process."""
    assert Notifier(environ).watchdog_seconds == seconds


async def test_health_tells_what_breaks_bridges(tmp_path: Path) -> None:
    """br_netfilter on, and who manages the NICs."""
    (tmp_path / "proc/sys/net/bridge").mkdir(parents=True)
    (tmp_path / "proc/sys/net/bridge/bridge-nf-call-iptables").write_text("1\n")
    (tmp_path / "run/NetworkManager").mkdir(parents=True)
    facts = {fact.name: fact for fact in await health_facts(tmp_path)}
    assert not facts["br_netfilter"].ok
    assert (facts["nic_manager"].ok, facts["nic_manager"].detail) == (False, "NetworkManager")
    assert "forward_policy" in facts
    healthy = {fact.name: fact for fact in await health_facts(tmp_path / "empty")}
    assert healthy["br_netfilter"].ok
    assert healthy["nic_manager"].ok


def test_the_built_in_backends_are_found_as_a_third_partys_would_be() -> None:
    """By entry points."""
    registry = Registry(load_plugins(GROUP), HostLinks(FakeKernel()))
    assert {"L2NoVlanNetwork", "L2VlanNetwork"} <= set(registry.l2_types)
    with pytest.raises(UnsupportedType):
        registry.get("L2None")


def test_two_backends_of_one_key_stop_the_start() -> None:
    """Both are named."""

    class Other(VlanBackend):
        pass

    with pytest.raises(PluginError, match=r"VlanBackend.*Other"):
        Registry([VlanBackend, Other], HostLinks(FakeKernel()))


async def test_a_backend_may_tell_changes_of_its_own_and_need_not() -> None:
    """Most networks are links alone, which the kernel tells of."""

    class Telling(VlanBackend):
        name = "telling"
        usual = False

        async def changes(self) -> AsyncIterator[Changed]:
            yield Changed(overflow=True)

    (changes,) = Registry([VlanBackend, Telling], HostLinks(FakeKernel())).changes()
    assert [changed async for changed in changes] == [Changed(overflow=True)]
