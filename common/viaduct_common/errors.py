"""Every error that may cross the bus.

ViaductError               INTERNAL             a bug; never raised on purpose
├── InvalidRequest         INVALID_REQUEST      details.field names the culprit
├── UnsupportedType        UNSUPPORTED_TYPE     no such message type, L2 type or backend
├── UnsupportedVersion     UNSUPPORTED_VERSION  another major version of the contract
├── NotFound               NOT_FOUND
├── AlreadyExists          ALREADY_EXISTS
├── Conflict               CONFLICT             e.g. another revision than the one read before
│   ├── L2Conflict         L2_CONFLICT          details.l2NetworkUuid names the other
│   ├── IpRangeConflict    IP_RANGE_CONFLICT    details.rangeUuid names the other
│   ├── IpInUse            IP_IN_USE
│   ├── NotInRange         NOT_IN_RANGE
│   └── ServiceConflict    SERVICE_CONFLICT
├── InUse                  IN_USE               something still depends on it; details name it
├── Exhausted              EXHAUSTED            no address is left
├── PreconditionFailed     PRECONDITION_FAILED  e.g. a host lacks the physical interface
├── HostUnreachable        HOST_UNREACHABLE     retryable: the host does not answer
├── BackendFailed          BACKEND_FAILED       the kernel refused; details have step, device, errno
├── DeadlineExceeded       TIMEOUT              retryable with the same message id
├── Overloaded             OVERLOADED           retryable: nothing was started
└── Forbidden              FORBIDDEN
"""

from typing import Any, ClassVar, Self

from viaduct_common.messages.base import ErrorBody


class ViaductError(Exception):
    """Something went wrong inside; what happened is in the log, not in the answer."""

    code: ClassVar[str] = "INTERNAL"
    retryable: bool = False

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def to_body(self) -> ErrorBody:
        return ErrorBody(code=self.code, message=self.message, details=self.details, retryable=self.retryable)

    @classmethod
    def from_body(cls, body: ErrorBody) -> "ViaductError":
        """The error of the code in `body`; a code that this release does not know becomes a plain ViaductError."""
        kind = ERRORS_BY_CODE.get(body.code, ViaductError)
        error = kind(body.message)
        error.details = dict(body.details)  # not as keywords: one of them may be named `message`
        error.retryable = body.retryable
        return error


class InvalidRequest(ViaductError):
    """The request can never be right as it is; `details.field` is the path of the culprit."""

    code = "INVALID_REQUEST"

    @classmethod
    def of_field(cls, field: str, problem: str, **details: Any) -> Self:
        return cls(f"{field}: {problem}", field=field, **details)


class UnsupportedType(ViaductError):
    """There is no such message type, L2 type, or no backend of it for the cluster's hypervisor."""

    code = "UNSUPPORTED_TYPE"


class UnsupportedVersion(ViaductError):
    """The header `viaduct-version` names a major version that is not spoken here."""

    code = "UNSUPPORTED_VERSION"


class NotFound(ViaductError):
    code = "NOT_FOUND"

    @classmethod
    def of(cls, kind: str, uuid: object) -> Self:
        return cls(f"no {kind} {uuid}", kind=kind, uuid=str(uuid))


class AlreadyExists(ViaductError):
    code = "ALREADY_EXISTS"


class Conflict(ViaductError):
    """The state is another than the request assumed."""

    code = "CONFLICT"


class L2Conflict(Conflict):
    """Two L2 networks want the same place on a cluster's hosts."""

    code = "L2_CONFLICT"


class IpRangeConflict(Conflict):
    code = "IP_RANGE_CONFLICT"


class IpInUse(Conflict):
    code = "IP_IN_USE"


class NotInRange(Conflict):
    code = "NOT_IN_RANGE"


class ServiceConflict(Conflict):
    code = "SERVICE_CONFLICT"


class InUse(ViaductError):
    code = "IN_USE"


class Exhausted(ViaductError):
    code = "EXHAUSTED"


class PreconditionFailed(ViaductError):
    """The world is not ready for it: repeat it after the cause is gone, not before."""

    code = "PRECONDITION_FAILED"


class HostUnreachable(ViaductError):
    code = "HOST_UNREACHABLE"
    retryable = True


class BackendFailed(ViaductError):
    """The host tried and its kernel refused; the host is as it was before."""

    code = "BACKEND_FAILED"


class DeadlineExceeded(ViaductError):
    """The time was up. Repeat it with the same message id: it is done once."""

    code = "TIMEOUT"
    retryable = True


class Overloaded(ViaductError):
    """Too much work is waiting; nothing was started."""

    code = "OVERLOADED"
    retryable = True


class Forbidden(ViaductError):
    """The role of the sender does not allow it."""

    code = "FORBIDDEN"


def _walk(kind: type[ViaductError]) -> dict[str, type[ViaductError]]:
    found = {kind.code: kind}
    for child in kind.__subclasses__():
        found |= _walk(child)
    return found


ERRORS_BY_CODE: dict[str, type[ViaductError]] = _walk(ViaductError)
