"""Publishing on one channel: many messages under way, one book of what the broker still has to confirm."""

import asyncio
from collections.abc import Callable

from viaduct_common.bus import frames
from viaduct_common.bus.envelope import Outgoing
from viaduct_common.bus.failures import Unroutable
from viaduct_common.bus.tap import Tap

OnReply = Callable[[str, bytes], None]


class Publisher:
    """An inlet of a channel in confirm mode, on which nobody else publishes.

    Args:
        number, frame_max: the channel's, as it was opened.
        on_reply: takes what is delivered on the channel: correlation id and body.
    """

    def __init__(self, tap: Tap, number: int, frame_max: int, app_id: str, on_reply: OnReply) -> None:
        self._tap = tap
        self._number = number
        self._frame_max = frame_max
        self._app_id = app_id
        self._on_reply = on_reply
        self._last_tag = 0
        self._unconfirmed: dict[int, asyncio.Future[None]] = {}  # by tag, in the order of their sending
        self._mandatory: dict[str, int] = {}  # message id -> tag: a return bears the first alone
        self._lost: str | None = None

    async def publish(self, message: Outgoing, deadline: float) -> None:
        """Publish and wait for the confirm, up to the loop's time `deadline`.

        Raises:
            Unroutable: the message is mandatory and came back.
            TimeoutError: no confirm.
            ConnectionError: a nack, or the channel went away.
        """
        loop = asyncio.get_running_loop()
        if self._tap.full:
            async with asyncio.timeout_at(deadline):
                await self._tap.drained()
        if self._lost is not None:
            raise ConnectionError(self._lost)
        data = frames.publish(message, self._number, self._app_id, self._frame_max)
        self._last_tag = tag = self._last_tag + 1
        confirmed: asyncio.Future[None] = loop.create_future()
        self._unconfirmed[tag] = confirmed
        if message.mandatory:
            self._mandatory[str(message.message_id)] = tag
        self._tap.send(data)
        timer = loop.call_at(deadline, _expire, confirmed)
        try:
            await confirmed
        finally:
            timer.cancel()
            self._unconfirmed.pop(tag, None)
            if message.mandatory:
                self._mandatory.pop(str(message.message_id), None)

    def on_message(self, method: bytes, header: bytes, body: bytes) -> None:
        given = frames.properties(header)
        if method.startswith(frames.RETURN):
            returned = self._unconfirmed.pop(self._mandatory.get(given.get("message_id", ""), 0), None)
            if returned is not None and not returned.done():
                returned.set_exception(Unroutable("no queue takes it"))
        else:
            self._on_reply(given.get("correlation_id", ""), body)

    def on_confirm(self, method: bytes) -> None:
        last, multiple = frames.confirm(method)
        tags = [last]
        if multiple:
            tags = []
            for tag in self._unconfirmed:
                if tag > last:
                    break
                tags.append(tag)
        for tag in tags:
            confirmed = self._unconfirmed.pop(tag, None)
            if confirmed is None or confirmed.done():
                continue  # returned before, or nobody waits for it any more
            if method.startswith(frames.ACK):
                confirmed.set_result(None)
            else:
                confirmed.set_exception(ConnectionError("the broker refused it (nack)"))

    def on_lost(self, error: BaseException | None) -> None:
        if self._lost is None:
            self._lost = f"the channel went away: {error!r}"
        unconfirmed, self._unconfirmed = self._unconfirmed, {}
        for confirmed in unconfirmed.values():
            if not confirmed.done():
                confirmed.set_exception(ConnectionError(self._lost))


def _expire(confirmed: asyncio.Future[None]) -> None:
    if not confirmed.done():
        confirmed.set_exception(TimeoutError())
