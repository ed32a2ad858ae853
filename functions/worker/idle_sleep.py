"""Lets an idle model release its GPU memory, and wakes it before its next call.

The worker stays in its group. Only servers with sleep steps can do it
(`functions/backends/backend_kinds.py`). Scaling is not affected: a sleeping replica is a replica.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

log = logging.getLogger(__name__)

_LOOK_S: Final = 0.25


class IdleSleep:
    """Owned by the event loop. `sleep` and `wake` raise what the server's failure raises.

    Args:
        after_s: idle this long, it is put to sleep; None: never.
    """

    def __init__(
        self,
        *,
        sleep: Callable[[], Awaitable[None]],
        wake: Callable[[], Awaitable[None]],
        after_s: float | None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sleep = sleep
        self._wake = wake
        self._after_s = after_s
        self._now = now
        self._lock = asyncio.Lock()
        self._calls = 0
        self._used_at = now()
        self.is_asleep = False

    @asynccontextmanager
    async def in_use(self) -> AsyncIterator[None]:
        """While inside, the model is awake; entering wakes it, and waits where it is just being put to sleep."""
        self._calls += 1
        try:
            if self._after_s is not None:
                # Not cut short by the caller's end: half a wake is a server in an unknown state.
                await asyncio.shield(self._be_awake())
            yield
        finally:
            self._calls -= 1
            self._used_at = self._now()

    async def watch(self) -> None:
        """Puts it to sleep whenever it was idle for long enough, until cancelled."""
        if self._after_s is None:
            return
        while True:
            await asyncio.sleep(min(_LOOK_S, self._after_s))
            await self.doze()

    async def doze(self) -> None:
        """Puts it to sleep if it has been idle for long enough now. A failure is logged and tried again later."""
        async with self._lock:
            idle_s = self._now() - self._used_at
            if self.is_asleep or self._calls or self._after_s is None or idle_s < self._after_s:
                return
            self.is_asleep = True  # first: a sleep that failed half-way needs a wake too
            try:
                await self._sleep()
            except Exception as error:  # noqa: BLE001 - the next call wakes it; only memory is not saved
                self._used_at = self._now()
                log.warning("the model could not be put to sleep", extra={"reason": str(error)})
                return
            log.info("the model sleeps")

    async def _be_awake(self) -> None:
        async with self._lock:
            if not self.is_asleep:
                return
            started = self._now()
            await self._wake()
            self.is_asleep = False
            log.info("the model is awake", extra={"seconds": round(self._now() - started, 3)})
