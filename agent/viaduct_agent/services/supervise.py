"""Programs that serve: started in a namespace, watched, started anew when they end, and left alone when the agent does.

A program puts itself into the background once it serves (dnsmasq and haproxy do), so that its start tells whether it
came to serve, and why not. Each has a directory; `program.json` in it says all that is needed to know the process
again and to start it anew, for an agent that was not there when it started.
"""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from viaduct_agent.services.files import write_file
from viaduct_agent.services.programs import inside, run
from viaduct_common.errors import BackendFailed, ViaductError

log = structlog.get_logger()
RECORD = "program.json"
END_SECONDS = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0
_STEADY_SECONDS = 60.0  # who served so long before it ended is started at once again


@dataclass(frozen=True, slots=True)
class Program:
    """`argv` goes into the background by itself and leaves its process id in `pid_file`. `version` is of whatever it
    reads at its start alone: with another one it is started anew."""

    argv: tuple[str, ...]
    netns: str | None
    pid_file: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Process:
    """A process id alone may belong to another by now: with the start, in clock ticks since boot, it is one process."""

    pid: int
    start_ticks: int

    @property
    def alive(self) -> bool:
        return _start_ticks(self.pid) == self.start_ticks

    def signal(self, number: int) -> bool:
        """To exactly this process; False if it has ended."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.alive:
                return False
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True


class Supervisor:
    """By directory. Calls for one directory must not overlap. `on_end` is told of each program that ended by itself."""

    def __init__(self, on_end: Callable[[Path], None] | None = None) -> None:
        self._watching: dict[Path, asyncio.Task[None]] = {}
        self._on_end = on_end

    async def ensure(self, directory: Path, program: Program) -> str | None:
        """Let it run; how it was made so, None if it ran already.

        Raises:
            BackendFailed: it did not come to serve; with what it said.
        """
        known, process = load(directory)
        if process is not None and process.alive and known == program:
            self._watch(directory, process)
            return None
        await self.stop(directory)
        await self._start(directory, program)
        return " ".join([*inside(program.netns), *program.argv])

    async def stop(self, directory: Path) -> bool:
        """End it and forget it; whether it ran."""
        task = self._watching.pop(directory, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        program, process = load(directory)
        ran = process is not None and await _end(process)
        if program is not None:
            await _end_unrecorded(program)
        (directory / RECORD).unlink(missing_ok=True)
        return ran

    def reload(self, directory: Path) -> bool:
        """SIGHUP; False if it does not run."""
        _, process = load(directory)
        return process is not None and process.signal(signal.SIGHUP)

    def adopt(self, directory: Path) -> None:
        """Watch what another process of the agent has started; it is started anew if it has ended since."""
        program, process = load(directory)
        if program is not None and process is not None:
            self._watch(directory, process)

    async def aclose(self) -> None:
        """Watch no more. The programs go on."""
        tasks = list(self._watching.values())
        self._watching.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _start(self, directory: Path, program: Program) -> None:
        """The program is recorded before its process: one that a crash leaves between is known by its pid file."""
        await _end_unrecorded(program)
        _save(directory, program, None)
        await run(program.argv, netns=program.netns)
        process = _read_pid(program)
        if process is None:
            raise BackendFailed(f"{program.argv[0]} ended as soon as it had started", step=" ".join(program.argv))
        _save(directory, program, process)
        self._watch(directory, process)

    def _watch(self, directory: Path, process: Process) -> None:
        task = self._watching.get(directory)
        if task is None or task.done():
            self._watching[directory] = asyncio.create_task(self._keep(directory, process), name=f"keep {directory}")

    async def _keep(self, directory: Path, process: Process) -> None:
        pause, loop = _FIRST_PAUSE, asyncio.get_running_loop()
        while True:
            since = loop.time()
            await _ended(process)
            if loop.time() - since > _STEADY_SECONDS:
                pause = _FIRST_PAUSE
            log.warning("program_ended", directory=str(directory), pid=process.pid, again_seconds=pause)
            if self._on_end is not None:
                self._on_end(directory)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            program, _ = load(directory)
            if program is None:
                return  # its directory is gone: whoever took it away wants no more of it
            try:
                await self._start(directory, program)
            except (ViaductError, OSError) as exc:
                log.warning("program_not_started", directory=str(directory), error=str(exc))
                continue
            _, started = load(directory)
            process = started or process
            log.info("program_started", directory=str(directory), pid=process.pid)


def load(directory: Path) -> tuple[Program | None, Process | None]:
    """What the record of a directory says."""
    try:
        record = json.loads((directory / RECORD).read_text(encoding="utf-8"))
        raw, process = record["program"], record["process"]
        program = Program(**{**raw, "argv": tuple(raw["argv"])})
        return program, None if process is None else Process(**process)
    except (OSError, ValueError, KeyError, TypeError):
        return None, None


def _save(directory: Path, program: Program, process: Process | None) -> None:
    record = {"program": asdict(program), "process": None if process is None else asdict(process)}
    write_file(directory / RECORD, json.dumps(record))


async def _ended(process: Process) -> None:
    """Return when it has ended; the kernel says so, child or not (pidfd_open(2))."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    try:
        if process.alive:
            loop.add_reader(descriptor, ended.set)
            await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def _end(process: Process) -> bool:
    """SIGTERM, and SIGKILL for one that does not care; whether it was there."""
    if not process.signal(signal.SIGTERM):
        return False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(END_SECONDS):
            await _ended(process)
            return True
    process.signal(signal.SIGKILL)
    await _ended(process)
    return True


async def _end_unrecorded(program: Program) -> None:
    """One that a former agent started and did not come to record. Only if it runs what the program runs."""
    process = _read_pid(program)
    if process is not None and _runs(process.pid, program):
        await _end(process)
    await asyncio.to_thread(Path(program.pid_file).unlink, missing_ok=True)


def _runs(pid: int, program: Program) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return [os.fsencode(word) for word in program.argv[1:]] == words[1 : len(program.argv)]


def _read_pid(program: Program) -> Process | None:
    try:
        pid = int(Path(program.pid_file).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    ticks = _start_ticks(pid)
    return None if ticks is None else Process(pid, ticks)


def _start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat; None for one that has ended, buried or not (proc(5))."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])
