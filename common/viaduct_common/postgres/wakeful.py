"""A duty that looks into the database: when somebody says that there is something, and now and then without that."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from viaduct_common.bus.failures import StoreUnavailable

log = structlog.get_logger()


class Wakeful:
    """Args:
    name: of the duty, for the log.
    look: one look; true if there may be more to do at once. One that fails is made again like any other.
    poll_seconds: what other processes left behind, and what was put off, is found so soon.
    spacing_seconds: after being woken it waits so long, so that a crowd of commits is one look.
    """

    def __init__(
        self, name: str, look: Callable[[], Awaitable[bool]], *, poll_seconds: float, spacing_seconds: float = 0.0
    ) -> None:
        self._name = name
        self._look = look
        self._poll_seconds = poll_seconds
        self._spacing_seconds = spacing_seconds
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Something was committed: do not wait for the next poll."""
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._woken.clear()
            if await self._try():
                continue
            try:
                async with asyncio.timeout(self._poll_seconds):
                    await self._woken.wait()
            except TimeoutError:
                continue
            if self._spacing_seconds:
                await asyncio.sleep(self._spacing_seconds)

    async def _try(self) -> bool:
        """What keeps one look from being made must not end the process."""
        try:
            return await self._look()
        except StoreUnavailable as error:
            log.warning("store_unavailable", duty=self._name, reason=str(error))
        except Exception:
            log.exception("duty_crashed", duty=self._name)
        return False
