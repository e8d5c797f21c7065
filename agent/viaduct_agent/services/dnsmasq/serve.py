"""One dnsmasq for each directory: started, told of changes by SIGHUP where that is enough, taken away."""

import hashlib
from pathlib import Path

from viaduct_agent.services.dnsmasq import config
from viaduct_agent.services.files import make_directory, write_file
from viaduct_agent.services.supervise import RECORD, Program, Supervisor, load
from viaduct_common.messages.l2 import Difference

PROGRAM = "dnsmasq"


def program(directory: Path, netns: str, files: dict[str, str]) -> Program:
    conf = directory / config.CONF
    version = hashlib.sha256(files[config.CONF].encode()).hexdigest()
    return Program((PROGRAM, f"--conf-file={conf}"), netns, str(directory / config.PID), version)


async def serve(
    directory: Path, netns: str, served: config.Served, supervisor: Supervisor, *, anew: bool = False
) -> list[str]:
    """Let it serve so; what was done. `anew`: its interface is another one than before.

    Raises:
        BackendFailed: it did not start; with what it said.
    """
    make_directory(directory)
    files = config.files(served, str(directory))
    wanted = program(directory, netns, files)
    before = _read(directory / config.HOSTS)
    stale = config.stale_addresses(before, files.get(config.HOSTS, ""))
    leases = directory / config.LEASES
    forgets = config.without_leases(_read(leases), stale) != _read(leases)
    if anew or forgets:
        await supervisor.stop(directory)  # it holds the leases in its memory, and writes all of them
    if forgets:  # before the files are new: a crash in between leaves what is stale to be seen again
        leases.write_text(config.without_leases(_read(leases), stale), encoding="utf-8")
    changed = [name for name, text in files.items() if write_file(directory / name, text)]
    done = []
    command = await supervisor.ensure(directory, wanted)
    if command is not None:
        done.append(command)
    elif changed and supervisor.reload(directory):
        done.append(f"kill -HUP $(cat {wanted.pid_file}) # {', '.join(changed)}")
    return done


def differences(directory: Path, netns: str, served: config.Served) -> list[Difference]:
    """Files that another hand changed, and a process that does not run."""
    files = config.files(served, str(directory))
    found = [
        Difference(device=name, attribute="content", desired=text, actual=_read(directory / name) or None)
        for name, text in files.items()
        if _read(directory / name) != text
    ]
    known, process = load(directory)
    if process is None or not process.alive or known != program(directory, netns, files):
        found.append(Difference(device=PROGRAM, attribute="running", desired=True, actual=False))
    return found


def is_served(directory: Path) -> bool:
    """Whether a dnsmasq was ever started there."""
    return (directory / RECORD).exists()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
