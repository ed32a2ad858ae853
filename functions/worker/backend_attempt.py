"""One attempt: calls the model until it accepts, as far as breaker and stand-by allow."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from events.destinations import is_waited_for
from events.names import Topics
from events.requests import RoutedRequest
from functions.runtime.backoff import Backoff, jittered
from functions.runtime.errors import ApiError
from functions.worker.backend_client import BackendAnswer, BackendClient, OnChunk
from functions.worker.backend_errors import MAX_WAIT_S, CallFailed, NotNow
from functions.worker.backend_request import BackendRequest
from functions.worker.cascade_step import has_stand_by
from functions.worker.job_context import JobContext

_BACKOFF: Final = Backoff(0.1, MAX_WAIT_S)


@dataclass(frozen=True, slots=True)
class BackendAttempt:
    """`count` gets the reason of every call that the server did not take."""

    serving: JobContext
    caller: BackendClient
    topics: Topics
    count: Callable[[str], None]

    async def call_until_answered(
        self,
        request: RoutedRequest,
        call: BackendRequest,
        on_chunk: OnChunk,
        begins: Callable[[], None],
    ) -> BackendAnswer:
        """The answer. The caller bounds the whole; `begins` is called before each call.

        Raises:
            ApiError: the request is at fault, or the server takes no call and another service stands by.
            CallFailed: no (valid) answer came, or the breaker is open and another service stands by.
        """
        may_stand_by = has_stand_by(request.cascade)
        may_wait = not is_waited_for(request.reply, self.topics)
        tries, began_s = 0, time.monotonic()
        while True:
            try:
                async with self.caller.health.call(
                    request.tenant,
                    request.request_id,
                    has_stand_by=may_stand_by,
                    may_wait=may_wait,
                ):
                    begins()
                    return await self._once(call, on_chunk)
            except NotNow as busy:
                self.count(busy.reason)
                if may_stand_by and time.monotonic() - began_s >= self.serving.busy_s:
                    raise ApiError("overloaded", "the model takes no call", src="model") from None
                tries += 1
                pause_s = max(_BACKOFF.delay_s(tries), busy.wait_s or 0.0)
                await asyncio.sleep(jittered(min(MAX_WAIT_S, pause_s)))

    async def _once(self, call: BackendRequest, on_chunk: OnChunk) -> BackendAnswer:
        try:
            async with asyncio.timeout(self.serving.service.timeout_s) as bound:
                return await self.caller.call(call, on_chunk)
        except TimeoutError:
            if bound.expired():
                raise CallFailed("timeout") from None
            raise
