"""What has become of the messages of one consuming channel, told to the broker in as few words as are true."""

from collections.abc import Callable

from viaduct_common.bus import frames
from viaduct_common.bus.envelope import Delivery
from viaduct_common.bus.tap import Tap

OnDelivery = Callable[["Settlement", int, Delivery], None]


class Settled:
    """Delivery tags 1, 2, 3, ... of a channel; pure.

    An ack with the flag "multiple" speaks for all tags up to its own, so it is given up to the tag below which there
    is none that has not ended.
    """

    def __init__(self) -> None:
        self._below = 0  # all up to here are settled
        self._beyond: set[int] = set()  # settled after a gap
        self._to_ack: list[int] = []

    def ack(self, tag: int) -> bool:
        """Note one that is done; true if it is the first since `acks`."""
        self._to_ack.append(tag)
        return len(self._to_ack) == 1

    def rejected(self, tag: int) -> None:
        """Note one that the broker has been told about otherwise."""
        self._end(tag)

    def acks(self) -> list[tuple[int, bool]]:
        """What to say: tags, each with "and all before it"."""
        to_ack, self._to_ack = self._to_ack, []
        for tag in to_ack:
            self._end(tag)
        together = [tag for tag in to_ack if tag <= self._below]
        alone = [(tag, False) for tag in to_ack if tag > self._below]
        if len(together) > 1:
            return [(max(together), True), *alone]
        return [*((tag, False) for tag in together), *alone]

    def _end(self, tag: int) -> None:
        self._beyond.add(tag)
        while self._below + 1 in self._beyond:
            self._below += 1
            self._beyond.discard(self._below)


class Settlement:
    """An inlet of a consuming channel: hands out what comes, takes back what became of it."""

    def __init__(self, tap: Tap, number: int, on_delivery: OnDelivery) -> None:
        self._tap = tap
        self._number = number
        self._on_delivery = on_delivery
        self._settled = Settled()
        self._lost: str | None = None

    def ack(self, tag: int) -> None:
        """It is done.

        Raises:
            ConnectionError: the channel is gone, so the broker delivers it again.
        """
        self._check()
        if self._settled.ack(tag):
            self._tap.send_late(self._acks)

    def give_back(self, tag: int) -> None:
        """Put it back into the queue.

        Raises:
            ConnectionError: as `ack`.
        """
        self._reject(tag, requeue=True)

    def refuse(self, tag: int) -> None:
        """Let the broker put it to the dead letters.

        Raises:
            ConnectionError: as `ack`.
        """
        self._reject(tag, requeue=False)

    def _reject(self, tag: int, *, requeue: bool) -> None:
        self._check()
        # At once, so that it stands before any ack that speaks for it as well.
        self._tap.send(frames.reject(self._number, tag, requeue=requeue))
        self._settled.rejected(tag)

    def close(self) -> None:
        """The channel was closed on purpose."""
        self._tap.close(self._number)
        self.on_lost(None)

    def on_message(self, method: bytes, header: bytes, body: bytes) -> None:
        tag, delivery = frames.delivery(method, header, body)
        self._on_delivery(self, tag, delivery)

    def on_confirm(self, method: bytes) -> None:
        """Nothing is published here."""

    def on_lost(self, error: BaseException | None) -> None:
        self._lost = f"the channel went away: {error!r}"

    def _check(self) -> None:
        if self._lost is not None:
            raise ConnectionError(self._lost)

    def _acks(self) -> bytes:
        if self._lost is not None:
            return b""
        return b"".join(frames.ack(self._number, tag, multiple=multiple) for tag, multiple in self._settled.acks())
