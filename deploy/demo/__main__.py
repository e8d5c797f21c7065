"""python -m demo: a stack of its own, all scenes, a summary, and nothing left behind."""

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from lab import LabError

from demo.narrator import FactFailed, Lines, Narrator
from demo.script import perform
from demo.stage import set_up
from local_stack.part import StackError
from local_stack.progress import BOLD
from local_stack.run_dir import RunDir
from local_stack.stack import Stack
from viaduct_common.bus import BusError
from viaduct_common.errors import ViaductError

HOSTS = 3
ENDINGS = (signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Return 0 only if every fact held."""
    narrator = Narrator()
    base = RunDir.default().path
    run_dir = RunDir(base / "demo")
    if os.geteuid() != 0:
        narrator.refused("The demo makes network namespaces and virtual hosts: run it as root (sudo make demo).")
        return 1
    for number in ENDINGS:
        signal.signal(number, _interrupt)
    began = time.monotonic()
    try:
        with run_dir.locked():
            return _staged(run_dir, narrator, began)
    finally:
        with suppress(OSError):
            base.rmdir()  # only if it is empty: somebody else may have a stack in it


def _staged(run_dir: RunDir, narrator: Narrator, began: float) -> int:
    stack = Stack(run_dir, hosts=HOSTS, progress=Lines(narrator))
    keep = os.environ.get("KEEP", "") not in {"", "0"}
    good = interrupted = False
    try:
        _raise_curtain(stack, narrator)
        good = _play(stack, narrator)
        if narrator.scenes:
            narrator.summary(time.monotonic() - began)
    except KeyboardInterrupt:
        interrupted = True
        narrator.refused("Interrupted.")
    except BaseException:
        narrator.refused("A mistake in the demo itself; the traceback is below.")
        raise
    finally:
        with _undisturbed():
            if not good and not interrupted and not keep:
                narrator.say_plainly(f"The logs are kept in {_shown(_keep_logs(run_dir))}.")
            if keep:
                _tell_how_to_look_around(run_dir, narrator)
            else:
                _take_down(stack, narrator)
    return 130 if interrupted else 0 if good else 1


def _raise_curtain(stack: Stack, narrator: Narrator) -> None:
    narrator.say_plainly(narrator.paint(BOLD, "Viaduct: networks and their services, from request to traffic"))
    narrator.say(
        f"A stack of its own in {_shown(stack.run_dir.path)}: broker, database, manager, IPAM, and {HOSTS} simulated "
        "KVM hosts with an agent each. host1 and host2 are cluster1, host3 is cluster2; eth0 of all hosts is on the "
        "management network, eth1 on one trunk. Two gateway hosts join later, for the network services."
    )
    if (stack.run_dir.path / "env").exists():
        narrator.say("A former demo's stack is still there: it goes first.")
        Stack(stack.run_dir).down()


def _play(stack: Stack, narrator: Narrator) -> bool:
    try:
        stack.up()
        asyncio.run(_scenes(stack, narrator))
    except FactFailed as exc:
        narrator.refused(f"This does not hold: {exc}")
    except StackError as exc:
        narrator.refused(str(exc))
        narrator.show(exc.last_lines().splitlines())
        narrator.say(*([f"What to do: {exc.advice}"] if exc.advice else []))
    except ViaductError as exc:
        narrator.refused(f"{exc.code}: {exc.message}")
        narrator.show([f"{key}: {value}" for key, value in exc.details.items()])
    except (LabError, BusError) as exc:
        narrator.refused(str(exc))
    else:
        return True
    return False


async def _scenes(stack: Stack, narrator: Narrator) -> None:
    async with set_up(stack, narrator) as stage:
        await perform(stage)


def _take_down(stack: Stack, narrator: Narrator) -> None:
    began = time.monotonic()
    narrator.say_plainly("\nTaking the stack down ...")
    try:
        Stack(stack.run_dir).down()
    except (StackError, LabError, OSError) as exc:
        narrator.refused(f"The stack could not be taken down whole: {exc}")
        raise
    narrator.say_plainly(f"Nothing is left of it. ({time.monotonic() - began:.1f} s)")


def _tell_how_to_look_around(run_dir: RunDir, narrator: Narrator) -> None:
    place = _shown(run_dir.path)
    narrator.say_plainly(f"""
The stack is left running (KEEP=1). To look around:
    export VIADUCT_RUN_DIR={place}; set -a; . {place}/env
    .venv/bin/viaduct status
    PYTHONPATH=deploy:tests .venv/bin/python -m local_stack run host1 'ip -d link'
    PYTHONPATH=deploy:tests .venv/bin/python -m local_stack run host1 'ip netns exec vm-e ping -c 1 192.168.0.11'
    make status
    make down          takes this stack down""")


def _keep_logs(run_dir: RunDir) -> Path:
    """Copy what the parts have printed out of the run directory, which goes with the stack."""
    target = run_dir.path.parent / "demo-logs"
    shutil.rmtree(target, ignore_errors=True)
    for log in [*run_dir.path.glob("*/log.txt"), *run_dir.path.glob("lab/hosts/*/agent.log")]:
        name = log.parent.name + ("-agent" if log.name == "agent.log" else "") + ".log"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, target / name)
    return target


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Taking down goes to its end, however impatient the audience is."""
    former = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, *ENDINGS)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _shown(path: Path) -> str:
    with suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


if __name__ == "__main__":
    sys.exit(main())
