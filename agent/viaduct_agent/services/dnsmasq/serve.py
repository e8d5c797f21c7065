"""One dnsmasq for each directory: started, told of changes by SIGHUP where that is enough, taken away."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from viaduct_agent.services.dnsmasq import config
from viaduct_agent.services.files import content_differences, make_directory, read_file, write_file
from viaduct_agent.services.supervise import Program, Supervisor, load
from viaduct_common.messages.l2 import Difference

PROGRAM = "dnsmasq"


@dataclass(frozen=True, slots=True)
class Dnsmasq:
    """`ServingProgram`."""

    served: config.Served

    async def serve(self, directory: Path, netns: str, supervisor: Supervisor, *, anew: bool = False) -> list[str]:
        make_directory(directory)
        files = config.files(self.served, str(directory))
        wanted = program(directory, netns, files)
        before = read_file(directory / config.HOSTS)
        stale = config.stale_addresses(before, files.get(config.HOSTS, ""))
        leases = directory / config.LEASES
        forgets = config.without_leases(read_file(leases), stale) != read_file(leases)
        if anew or forgets:
            await supervisor.stop(directory)  # it holds the leases in its memory, and writes all of them
        if forgets:  # before the files are new: a crash in between leaves what is stale to be seen again
            leases.write_text(config.without_leases(read_file(leases), stale), encoding="utf-8")
        changed = [name for name, text in files.items() if write_file(directory / name, text)]
        done = []
        command = await supervisor.ensure(directory, wanted)
        if command is not None:
            done.append(command)
        elif changed and supervisor.reload(directory):
            done.append(f"kill -HUP $(cat {wanted.pid_file}) # {', '.join(changed)}")
        return done

    def differences(self, directory: Path, netns: str) -> list[Difference]:
        files = config.files(self.served, str(directory))
        found = content_differences(directory, files)
        known, process = load(directory)
        if process is None or not process.alive or known != program(directory, netns, files):
            found.append(Difference(device=PROGRAM, attribute="running", desired=True, actual=False))
        return found


def program(directory: Path, netns: str, files: dict[str, str]) -> Program:
    conf = directory / config.CONF
    version = hashlib.sha256(files[config.CONF].encode()).hexdigest()
    return Program((PROGRAM, f"--conf-file={conf}"), netns, str(directory / config.PID), version)
