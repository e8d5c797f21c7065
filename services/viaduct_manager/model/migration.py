"""What a request to migrate a VM's networks means, by where they are and where they are being moved."""

from enum import Enum
from uuid import UUID

from viaduct_common.errors import Conflict


class Migration(Enum):
    """`ANSWER`: nothing is to be done. `BEGIN` and `MOVE` make the destination ready first."""

    ANSWER = "answer"
    BEGIN = "begin"
    MOVE = "move"
    FINISH = "finish"
    ABORT = "abort"


def decide_migration(action: str | None, *, at: UUID, moving_to: UUID | None, destination: UUID) -> Migration:
    """Args:
        at: the host where the VM's NICs are.
        moving_to: the host that was made ready for them, None if no migration was begun.

    Raises:
        Conflict: another migration was begun, or none; the details name the hosts.
    """
    if moving_to not in {None, destination}:
        raise Conflict(
            f"the VM's networks are being moved to host {moving_to}: finish or abort that first",
            field="hostUuid",
            hostUuid=str(at),
            migratingToHostUuid=str(moving_to),
        )
    under_way = moving_to == destination
    match action:
        case "begin":
            if at == destination:
                raise _already_there(at)
            return Migration.ANSWER if under_way else Migration.BEGIN
        case "finish":
            if under_way:
                return Migration.FINISH
            if at == destination:
                return Migration.ANSWER
            raise Conflict(f"no migration to host {destination} was begun", field="action", hostUuid=str(at))
        case "abort":
            return Migration.ABORT if under_way else Migration.ANSWER
        case _:
            return Migration.ANSWER if at == destination else Migration.MOVE


def _already_there(at: UUID) -> Conflict:
    return Conflict(f"the VM's networks are on host {at} already", field="hostUuid", hostUuid=str(at))
