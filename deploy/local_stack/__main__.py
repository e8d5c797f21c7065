"""The command line of the local stack: python -m local_stack COMMAND."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from lab import LabError

from local_stack.part import StackError
from local_stack.progress import Progress
from local_stack.run_dir import RunDir
from local_stack.stack import HOST_NAME, Stack

Arguments = argparse.Namespace


def up(stack: Stack, progress: Progress, _: Arguments) -> int:
    """Start what is missing."""
    began = time.monotonic()
    progress.heading("Viaduct's local stack")
    stack.up()
    env = shown(stack.run_dir.path / "env")
    progress.say(f"\nUp after {time.monotonic() - began:.1f} s. Addresses and passwords are in {env}:")
    progress.say(f"    set -a; . {env}")
    progress.say("    make status    make down")
    return 0


def down(stack: Stack, progress: Progress, _: Arguments) -> int:
    """Stop everything and remove its data."""
    stack.down()
    progress.say("Nothing is left.")
    return 0


def status(stack: Stack, progress: Progress, _: Arguments) -> int:
    """Show every part; fail unless all is up."""
    rows = stack.status()
    for row in rows:
        progress.line(row.good, f"{row.name:<12}", row.detail)
    good = bool(rows) and all(row.good for row in rows)
    if not good:
        progress.say("\nNot all is up: make up starts what is missing.")
    return 0 if good else 1


def control(stack: Stack, progress: Progress, arguments: Arguments) -> int:
    """Start, stop, kill or restart one part or host."""
    verb, name = arguments.command, arguments.part
    with progress.step(f"{verb} {name}"):
        if HOST_NAME.fullmatch(name):
            host = stack.hosts.host(name)
            if verb != "start":
                host.stop(hard=verb == "kill")
            if verb in {"start", "restart"}:
                host.start()
                stack.start_agents([name])
        else:
            getattr(stack.part(name), verb)()
            if verb in {"start", "restart"}:
                stack.settle()
    return 0


def agent(stack: Stack, progress: Progress, arguments: Arguments) -> int:
    """Start, stop, kill or restart the agent of one host."""
    verb, name = arguments.verb, arguments.host
    with progress.step(f"{verb} the agent of {name}"):
        if verb != "start":
            stack.hosts.stop_agent(name, number=signal.SIGKILL if verb == "kill" else signal.SIGTERM)
        if verb in {"start", "restart"}:
            stack.start_agents([name])
    return 0


def add_manager(stack: Stack, progress: Progress, _: Arguments) -> int:
    """Start one more manager."""
    with progress.step("one more manager"):
        stack.add_manager()
    return 0


def run(stack: Stack, _: Progress, arguments: Arguments) -> int:
    """Run a command in a host."""
    words = arguments.words
    result = stack.hosts.host(arguments.host).run(words[0] if len(words) == 1 else words, check=False)
    sys.stdout.write(result.stdout)
    sys.stderr.write(result.stderr)
    return result.code if result.code >= 0 else 128 - result.code


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    top = argparse.ArgumentParser(prog="local_stack", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, action: Callable[[Stack, Progress, Arguments], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(action=action)
        return command

    command = add("up", up, "start what is missing, and wait until everything serves")
    command.add_argument("--hosts", type=int, default=int(os.environ.get("HOSTS") or 3), help="how many (default: 3)")
    command.add_argument("--host-kind", choices=["uml", "netns"], default=os.environ.get("HOST_KIND") or None)
    add("down", down, "stop everything and remove all data")
    add("status", status, "show every part; exit 0 only if all is up")
    for verb in ("start", "stop", "kill", "restart"):
        command = add(verb, control, f"{verb} one part or host")
        command.add_argument("part", help="broker, postgres, manager, ipam, manager-2 ..., host1 ...")
    add("add-manager", add_manager, "start one more manager on this stack")
    command = add("agent", agent, "control the agent of a host")
    command.add_argument("host")
    command.add_argument("verb", choices=["start", "stop", "kill", "restart"])
    command = add("run", run, "run a command in a host; one word goes through the shell")
    command.add_argument("host")
    command.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND ...")
    return top


def shown(path: Path) -> str:
    """Return a path as short as it can be said from here."""
    with suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def main() -> int:
    """Run one command; say what failed, the end of its log, and what to do."""
    arguments = parser().parse_args()
    progress = Progress()
    run_dir = RunDir.default()
    stack = Stack(
        run_dir,
        hosts=getattr(arguments, "hosts", 0),
        host_kind=getattr(arguments, "host_kind", None),
        docker=os.environ.get("STACK") == "docker",
        progress=progress,
    )
    try:
        with run_dir.locked(wait=arguments.command not in {"run", "status"}):
            action: Callable[[Stack, Progress, Arguments], int] = arguments.action
            return action(stack, progress, arguments)
    except (StackError, LabError) as exc:
        sys.stderr.write(f"\n{exc}\n")
        if isinstance(exc, StackError):
            sys.stderr.write("".join(f"    {line}\n" for line in exc.last_lines().splitlines()))
            sys.stderr.write(f"What to do: {exc.advice}\n" if exc.advice else "")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted: what has been started goes on; make down stops it.\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
