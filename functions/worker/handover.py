"""After a failed start: hands waiting jobs to their stand-by services.

After some failed starts in a row it ends the others with an error, so that the lag becomes zero
and nothing starts the model again.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from functions.worker.consumer_thread import ConsumerThread
from functions.worker.job_runner import JobRunner

log = logging.getLogger(__name__)

JOIN_S: Final = 10.0
LOOK_S: Final = 0.25
QUIET_S: Final = 1.0
"""No further job for this long: all that was to be had has been looked at."""
MOST_S: Final = 60.0
"""Longest time for which a worker turns work away; what is left then is the next start's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """Everything it takes. `is_ours` False: another replica or revision serves the topic, whose work it is.

    `lag` reads how many records of the service are not committed. Both block and are called in a thread.
    """

    poll: ConsumerThread
    runner: JobRunner
    joined: asyncio.Event
    is_ours: Callable[[], bool]
    lag: Callable[[], int]

    async def turn_away(self, why: str, *, is_final: bool) -> None:
        """Returns when nothing waits any more, or it took too long. `is_final` False: what has nowhere to go stays."""
        if not await asyncio.to_thread(self._has_work):
            return
        log.error("waiting work is turned away", extra={"reason": why, "all": is_final})
        self.runner.close(f"the model could not be started: {why}", is_final=is_final)
        self.poll.join_group()
        with suppress(TimeoutError):
            async with asyncio.timeout(JOIN_S):
                await self.joined.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(MOST_S):
                await (self._until_nothing_waits() if is_final else self._until_quiet())

    async def _until_nothing_waits(self) -> None:
        while self.poll.is_alive() and (  # noqa: ASYNC110 - commits are awaited, not events of ours
            self.runner.in_flight or await asyncio.to_thread(self._lag_now)
        ):
            await asyncio.sleep(LOOK_S)

    async def _until_quiet(self) -> None:
        seen, since_s = self.runner.handled, time.monotonic()
        while self.runner.in_flight or time.monotonic() - since_s < QUIET_S:
            if self.runner.handled != seen:
                seen, since_s = self.runner.handled, time.monotonic()
            await asyncio.sleep(LOOK_S)

    def _has_work(self) -> bool:
        return bool(self._lag_now()) and self.is_ours()

    def _lag_now(self) -> int:
        """1 where it cannot be read: then something may wait."""
        try:
            return self.lag()
        except (RuntimeError, OSError) as error:
            log.warning("lag is not known", extra={"reason": type(error).__name__})
            return 1
