"""What an operation about a VM's networks does next.

    prepare  realize ─► allocate ─► services ─► ended
                │ failed    │ failed     │ failed
                └───────────┴────────────┴─► rollback ─► ended

    migrate  realize ─► services ─► ended (begin), or moved and ended
                │ failed     │ failed
                └────────────┴─► undone and ended

    release  release ─► ended

`allocate`, `release` and `rollback` wait for IPAM, by the NICs of which something is still to be done there; `realize`
waits for one host; `services` for all hosts that have something to do for the NICs' services, and is left out where
there are none.
"""

from dataclasses import dataclass
from enum import Enum

PREPARE = "vm.prepareNetworks"
RELEASE_NICS = "vm.releaseNetworks"
MIGRATE = "vm.migrateNetworks"
VM_OPERATIONS = frozenset({PREPARE, RELEASE_NICS, MIGRATE})

REALIZE = "realize"
ALLOCATE = "allocate"
SERVICES = "services"
RELEASE = "release"
ROLLBACK = "rollback"


class VmMove(Enum):
    """What to do now."""

    WAIT = "wait"
    ALLOCATE = "allocate"
    SERVE = "serve"
    UNDO = "undo"
    SUCCEED = "succeed"
    FAIL = "fail"


@dataclass(frozen=True)
class VmStanding:
    """Where an operation stands.

    Attributes:
        overdue: its time is up.
        to_realize: networks that the host has yet to realise; counted in the phase `realize` only.
        failed: the host, or IPAM, has refused, or is away; or a service cannot be had.
        at_ipam: NICs of which something is still to be done at IPAM.
        to_serve: hosts have yet to do something for the NICs' services; looked at in the phase `services` only.
    """

    type: str
    phase: str
    overdue: bool = False
    to_realize: int = 0
    failed: bool = False
    at_ipam: int = 0
    to_serve: bool = False


def next_move(at: VmStanding) -> VmMove:
    """Decide what follows when something has happened that the operation may have waited for."""
    match at.type, at.phase:
        case (("vm.prepareNetworks" | "vm.migrateNetworks"), "realize"):
            undo = at.failed or (at.overdue and at.to_realize > 0)
            after = VmMove.ALLOCATE if at.type == PREPARE else VmMove.SERVE
            move = VmMove.UNDO if undo else VmMove.WAIT if at.to_realize else after
        case "vm.prepareNetworks", "allocate":
            undo = at.overdue if at.at_ipam else at.failed
            move = VmMove.UNDO if undo else VmMove.WAIT if at.at_ipam else VmMove.SERVE
        case (("vm.prepareNetworks" | "vm.migrateNetworks"), "services"):
            undo = at.failed or (at.overdue and at.to_serve)
            move = VmMove.UNDO if undo else VmMove.WAIT if at.to_serve else VmMove.SUCCEED
        case (("vm.prepareNetworks" | "vm.migrateNetworks"), "rollback"):
            # What IPAM has yet to take back after that, it is told of until it does.
            move = VmMove.WAIT if at.at_ipam and not at.overdue else VmMove.FAIL
        case "vm.releaseNetworks", "release":
            late = VmMove.FAIL if at.overdue else VmMove.WAIT
            move = late if at.at_ipam else VmMove.SUCCEED
        case _:
            raise ValueError(f"no move for {at}")
    return move
