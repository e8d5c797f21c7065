"""One request on its way through the engine."""

import asyncio
from collections.abc import Iterable
from uuid import UUID

from viaduct_common.bus import RequestContext
from viaduct_common.messages.ipam import AllocateIp, ReleaseIp

Key = tuple[str, UUID]


class Work:
    """`answer` gets the reply's JSON once it is committed, or the error why there is none; `key` is whose request it
    is, and by which message id; `needs_lane`: the desk cannot do it."""

    __slots__ = ("answer", "key", "l3_network_uuid", "needs_lane", "request")

    def __init__(self, l3_network_uuid: UUID, request: AllocateIp | ReleaseIp, context: RequestContext) -> None:
        self.l3_network_uuid = l3_network_uuid
        self.request = request
        self.needs_lane = not isinstance(request, AllocateIp)
        self.key: Key = (context.sender, context.message_id)
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    @property
    def is_wanted(self) -> bool:
        """Whether anybody still waits for it: work past its deadline is not begun."""
        return not self.answer.done()

    def finish(self, answer: bytes) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


def allocations(works: Iterable[Work]) -> list[AllocateIp]:
    """The requests of those that allocate."""
    return [work.request for work in works if isinstance(work.request, AllocateIp)]
