"""Programs that put themselves into the background, watched; no root is needed."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path

import pytest

from viaduct_agent.services.supervise import Process, Program, Supervisor, load
from viaduct_common.errors import BackendFailed

from .world import wait_until

# What goes into the background is named so that only this test's own is.
SCRIPT = """
setsid sh -c 'trap "echo hup >> {0}/log" HUP; echo $$ > {0}/pid; while :; do sleep 0.05; done' {1} > /dev/null 2>&1 &
while [ ! -s {0}/pid ]; do sleep 0.01; done
"""
LOOP = "while :; do sleep 0.05; done"


def program(directory: Path, version: str = "1") -> Program:
    script = SCRIPT.format(directory, directory.name)
    return Program(("sh", "-c", script), None, str(directory / "pid"), version)


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor()
    yield supervisor
    await supervisor.stop(tmp_path)
    await supervisor.aclose()


def running(directory: Path) -> int:
    process = recorded(directory)
    return process.pid if process.alive else 0


def recorded(directory: Path) -> Process:
    """One that never was, while it is started."""
    return load(directory)[1] or Process(1, -1)


async def eventually(directory: Path, other_than: int) -> int:
    fact = lambda: running(directory) not in {0, other_than}  # noqa: E731
    await asyncio.to_thread(wait_until, fact, "the next process")
    return running(directory)


async def test_ensure_starts_once_and_anew_with_another_version(supervisor: Supervisor, tmp_path: Path) -> None:
    """The second call changes nothing."""
    assert await supervisor.ensure(tmp_path, program(tmp_path))
    first = recorded(tmp_path)
    assert await supervisor.ensure(tmp_path, program(tmp_path)) is None
    assert recorded(tmp_path) == first
    assert await supervisor.ensure(tmp_path, program(tmp_path, "2"))
    assert recorded(tmp_path) != first
    assert recorded(tmp_path).alive
    assert not first.alive


async def test_killed_program_comes_back_until_it_is_stopped(supervisor: Supervisor, tmp_path: Path) -> None:
    """Also twice; after `stop` nothing is left."""
    await supervisor.ensure(tmp_path, program(tmp_path))
    for _ in range(2):
        killed = running(tmp_path)
        os.kill(killed, signal.SIGKILL)
        assert await eventually(tmp_path, killed)
    last = recorded(tmp_path)
    assert await supervisor.stop(tmp_path)
    assert not last.alive
    assert load(tmp_path) == (None, None)
    assert not await supervisor.stop(tmp_path)


async def test_next_agent_watches_what_the_last_one_started(supervisor: Supervisor, tmp_path: Path) -> None:
    """`aclose` leaves it running; `adopt` brings it back when it ends."""
    await supervisor.ensure(tmp_path, program(tmp_path))
    started = running(tmp_path)
    await supervisor.aclose()
    assert running(tmp_path) == started
    following = Supervisor()
    following.adopt(tmp_path)
    os.kill(started, signal.SIGKILL)
    assert await eventually(tmp_path, started)
    await following.aclose()


async def test_crash_between_start_and_record_leaves_no_second_process(supervisor: Supervisor, tmp_path: Path) -> None:
    """Whoever comes next ends what the pid file tells, if that runs the program, before it starts another."""
    own = f"/{tmp_path.name}"
    daemon = Program(("sh", "-c", LOOP, own), None, str(tmp_path / "pid"))
    unrecorded = await asyncio.create_subprocess_exec(*daemon.argv, start_new_session=True)
    stranger = await asyncio.create_subprocess_exec("sh", "-c", LOOP, "/stranger", start_new_session=True)
    for pid, gone in ((stranger.pid, False), (unrecorded.pid, True)):
        record = {"program": {**asdict(daemon), "argv": list(daemon.argv)}, "process": None}
        (tmp_path / "program.json").write_text(json.dumps(record))
        (tmp_path / "pid").write_text(str(pid))
        await supervisor.stop(tmp_path)
        assert (await ended(unrecorded if gone else stranger)) is gone
    stranger.kill()
    await stranger.wait()


async def ended(process: asyncio.subprocess.Process) -> bool:
    try:
        async with asyncio.timeout(1):
            await process.wait()
    except TimeoutError:
        return False
    return True


async def test_program_that_does_not_start_says_why(supervisor: Supervisor, tmp_path: Path) -> None:
    """Its own words are in the error."""
    broken = Program(("sh", "-c", "echo no such interface >&2; exit 2"), None, str(tmp_path / "pid"))
    with pytest.raises(BackendFailed, match="no such interface") as caught:
        await supervisor.ensure(tmp_path, broken)
    assert caught.value.details["status"] == 2


async def test_reload_reaches_it(supervisor: Supervisor, tmp_path: Path) -> None:
    """SIGHUP, to exactly this process."""
    assert not supervisor.reload(tmp_path)
    await supervisor.ensure(tmp_path, program(tmp_path))
    assert supervisor.reload(tmp_path)
    await asyncio.to_thread(wait_until, (tmp_path / "log").exists, "the word that it heard")


def test_process_id_that_belongs_to_another_now_is_not_signalled() -> None:
    """The start time tells."""
    assert not Process(os.getpid(), 1).alive
    assert not Process(os.getpid(), 1).signal(signal.SIGTERM)
