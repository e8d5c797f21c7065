"""The whole stack, as `make up` brings it up: idempotent, honest about its state, gone after down."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.machine import NETNS_DIR
from lab.process import Process, tagged

from local_stack.stack import Stack
from viaduct_common.client import ViaductClient

pytestmark = [pytest.mark.lab, pytest.mark.slow]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack with two hosts, not yet up; down after the test, whatever happened."""
    if os.geteuid() != 0:
        reason = "hosts need root"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    stack = Stack(tmp_path / "run", hosts=2)
    yield stack
    stack.down()


def bad(stack: Stack) -> set[str]:
    """The names of the parts that the status calls bad."""
    return {row.name for row in stack.status() if not row.good}


def tunnel_ends(stack: Stack) -> dict[str, str]:
    """By the name of the host, as the manager has it."""

    async def asked() -> dict[str, str]:
        async with ViaductClient(stack.broker.amqp_url(), name="test") as net:
            return {host.name: str(host.tunnel_ip) for host in (await net.host.query()).items}

    return asyncio.run(asked())


def test_stack_comes_up_tells_what_is_missing_mends_itself_and_leaves_nothing(stack: Stack) -> None:
    """Up brings what is missing and nothing else; status knows; after down there is no process, device or file."""
    assert bad(stack) == {"postgres", "broker", "manager", "ipam"}

    stack.up()
    assert bad(stack) == set()
    assert tunnel_ends(stack) == {name: stack.hosts.host(name).address for name in ("host1", "host2")}
    before = {name: stack.part(name).process() for name in ("broker", "postgres", "manager", "ipam")}
    stack.up()
    assert {name: stack.part(name).process() for name in before} == before

    stack.part("manager").kill()
    stack.hosts.stop_agent("host1", number=9)
    stack.hosts.host("host2").stop(hard=True)
    assert bad(stack) == {"manager", "host1", "host2"}
    stack.up()
    assert bad(stack) == set()

    extra = stack.add_manager()
    assert extra.ready()
    known = [*before.values(), extra.process(), Process.load(stack.broker.folder / "epmd.json")]
    running = [member for process in known if process for member in process.family()]

    stack.down()

    assert [process for process in running if process.alive()] == []
    assert tagged("VIADUCT_LAB", stack.hosts.lab.netns) == []
    assert not (NETNS_DIR / stack.hosts.lab.netns).exists()
    assert list(stack.run_dir.path.iterdir()) == []


def test_env_file_is_private_and_plain_shell(tmp_path: Path) -> None:
    """`. .run/env` sets the variables, and nobody else can read them."""
    stack = Stack(tmp_path / "run")

    stack.write_env()

    env = tmp_path / "run" / "env"
    assert env.stat().st_mode & 0o777 == 0o600
    pairs = dict(line.split("=", 1) for line in env.read_text().splitlines())
    assert pairs["VIADUCT_AMQP_URL"] == f"'{stack.broker.amqp_url()}'"
    assert len(pairs["VIADUCT_METRICS_URLS"].split()) == 3
