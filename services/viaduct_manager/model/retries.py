"""When a realization that failed is tried again."""

from collections.abc import Collection

from viaduct_common.messages.base import ErrorBody

FIRST_SECONDS = 2.0
LONGEST_SECONDS = 300.0
# What may go away by itself. Anything else is permanent until somebody changes the host or the network: it is shown,
# not repeated; a hello of the host (its interfaces may be others now) tries it once more.
TRANSIENT_CODES = frozenset({"BACKEND_FAILED", "TIMEOUT", "HOST_UNREACHABLE", "INTERNAL", "OVERLOADED"})
# A service stands on bridges that may be on their way.
SERVICE_CODES = TRANSIENT_CODES | {"PRECONDITION_FAILED"}


def retry_after_seconds(
    error: ErrorBody, attempts: int, *, releasing: bool, transient: Collection[str] = TRANSIENT_CODES
) -> float | None:
    """Seconds until the next try, doubling from 2 s to 5 min; None for never.

    A release is always tried again: what blocks it (a VM's tap) goes away by itself one day.
    """
    if not (releasing or error.retryable or error.code in transient):
        return None
    return float(min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** min(attempts, 20)))
