"""The circuit breaker in the worker: records ends of calls, reports state, holds requests."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from events.names import BreakerState
from functions.runtime.errors import ApiError
from functions.worker.backend_errors import CallFailed, NotNow
from functions.worker.circuit_breaker import BreakerRule, CallEnd, CircuitBreaker

LOOK_S: Final = 0.5
"""A request that waits for a probe's end looks this often at least."""


class BackendHealth:
    """Owned by the event loop.

    Args:
        tell: gets the new state and the seconds until an open breaker is half open, at every change.
    """

    def __init__(
        self,
        rule: BreakerRule,
        tell: Callable[[BreakerState, float], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._breaker = CircuitBreaker(rule=rule)
        self._tell = tell
        self._now = now
        self._changed = asyncio.Event()
        self._is_probing = False

    @property
    def is_closed(self) -> bool:
        return not self._breaker.is_open

    @asynccontextmanager
    async def call(
        self, tenant: str, request_id: str, *, has_stand_by: bool, may_wait: bool
    ) -> AsyncIterator[None]:
        """Around one call of the model.

        While the breaker is open, a request goes to who stands by; without one it waits, where nobody holds the line
        for it, else it is tried all the same.

        Raises:
            CallFailed: `breaker_open`, another service should answer.
        """
        is_probe = await self._admit(has_stand_by=has_stand_by, may_wait=may_wait)
        try:
            yield
        except (ApiError, CallFailed, NotNow) as error:
            if (is_failure := is_server_failure(error)) is not None:
                self._note(tenant, request_id, is_failure=is_failure)
            raise
        else:
            self._note(tenant, request_id, is_failure=False)
        finally:
            if is_probe:
                self._is_probing = False
                self._changed.set()

    async def _admit(self, *, has_stand_by: bool, may_wait: bool) -> bool:
        """Returns whether the call is the probe of a half-open breaker."""
        while self._breaker.is_open:
            now_s = self._now()
            if self._breaker.state(now_s) is BreakerState.HALF_OPEN and not self._is_probing:
                self._is_probing = True
                return True
            if has_stand_by:
                raise CallFailed("breaker_open")
            if not may_wait:
                return False
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(LOOK_S, self._breaker.left_s(now_s))):
                    await self._changed.wait()
        return False

    def _note(self, tenant: str, request_id: str, *, is_failure: bool) -> None:
        now_s = self._now()
        before = self._breaker
        self._breaker = before.ended(CallEnd(now_s, tenant, request_id, is_failure))
        if (before.is_open, before.times) != (self._breaker.is_open, self._breaker.times):
            self._tell(self._breaker.state(now_s), self._breaker.left_s(now_s))
            self._changed.set()


def is_server_failure(error: ApiError | CallFailed | NotNow) -> bool | None:
    """Whether a call's end is the server's failure. None: unknown."""
    if isinstance(error, CallFailed):
        return True
    if isinstance(error, NotNow):
        return True if error.reason == "connect" else None
    return True if error.src == "model" and error.code == "backend_failed" else None
