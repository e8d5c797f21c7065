"""What an operation does next, once every step of its phase has ended.

    attach   preflight ─► realize ─► ended            detach   preflight ─► release ─► ended
                 │            │ failed                              │            │ failed
                 │ failed     ▼ (rollback)                          │ failed     ▼
                 └────────► rollback ─► ended                       └──► ended  rollback (realize again) ─► ended

    change   preflight ─► realize ─► ended            move     realize ─► ended
     of VLAN     │ failed     │ failed
     or MTU      ▼            ▼                       orphans  check ─► ended
               ended   rollback (realize as before) ─► ended

Checks and plans have one phase, `check`, and so have the questions after orphans, and their sweep. The removal of a
host has `release`, and `services` before it if it has any: these stand on its networks. A host that has moved stays
where it is, whether it could do all that this asked or not.
"""

from dataclasses import dataclass
from enum import Enum

ATTACH = "l2.attach"
DETACH = "l2.detach"
CHECK = "l2.check"
PLAN = "l2.plan"
DELETE_HOST = "host.delete"
MOVE_HOST = "host.move"
CHANGE_VLAN = "l2.changeVlan"
CHANGE_MTU = "l2.changeMtu"
ORPHANS = "host.orphans"
SWEEP = "host.sweepOrphans"
CHECK_SERVICES = "service.check"
AWAIT_SERVICES = "service.await"

CHANGES = frozenset({CHANGE_VLAN, CHANGE_MTU})
# They alter nothing: no event tells of their end, and nobody waits for them to end.
INQUIRIES = frozenset({CHECK, PLAN, ORPHANS, CHECK_SERVICES, AWAIT_SERVICES})
# Without the host's answer there is none at all.
OF_ONE_HOST = frozenset({ORPHANS, SWEEP})

PREFLIGHT = "preflight"
REALIZE = "realize"
RELEASE = "release"
SERVICES = "services"
ROLLBACK = "rollback"
INQUIRE = "check"


class Move(Enum):
    """What to do now."""

    WAIT = "wait"
    REALIZE = "realize"
    RELEASE = "release"
    ROLL_BACK = "roll back"
    SUCCEED = "succeed"
    FAIL = "fail"


@dataclass(frozen=True)
class Standing:
    """Where an operation stands: how many steps of its phase run, and how many failed."""

    type: str
    phase: str
    on_failure: str
    pending: int
    failed: int


def next_move(at: Standing) -> Move:
    """Decide what follows when a step has ended, or a phase was begun without any step."""
    if at.pending > 0:
        return Move.WAIT
    good = at.failed == 0
    match at.type, at.phase:
        case "l2.attach", "preflight":
            # With `keep` the hosts that can have it get it, the others show why not.
            move = Move.REALIZE if good or at.on_failure == "keep" else Move.FAIL
        case "l2.attach", "realize":
            move = Move.SUCCEED if good else Move.FAIL if at.on_failure == "keep" else Move.ROLL_BACK
        case "l2.detach", "preflight":
            move = Move.RELEASE if good else Move.FAIL
        case "l2.detach", "release":
            move = Move.SUCCEED if good else Move.ROLL_BACK
        case "l2.changeVlan" | "l2.changeMtu", "preflight":
            move = Move.REALIZE if good else Move.FAIL
        case "l2.changeVlan" | "l2.changeMtu", "realize":
            move = Move.SUCCEED if good else Move.ROLL_BACK
        case "l2.attach" | "l2.detach" | "l2.changeVlan" | "l2.changeMtu", "rollback":
            move = Move.FAIL
        case ("host.move", "realize") | ("host.orphans" | "host.sweepOrphans", "check"):
            move = Move.SUCCEED if good else Move.FAIL
        case "host.delete", "services":
            move = Move.RELEASE
        case ("l2.check" | "l2.plan" | "service.check", "check") | ("host.delete", "release"):
            # A host that did not answer is a line of the answer; a host that is removed need not agree.
            move = Move.SUCCEED
        case _:
            raise ValueError(f"no move for {at}")
    return move
