"""Turns for large bodies: reading one occupies the event loop for some milliseconds.

A tenant has one body in work at a time. Between two of them it waits for a multiple of what the
last one took. So each tenant's share of the loop is bounded, and others wait for one body at most.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from functions.runtime.errors import ApiError

T = TypeVar("T")
_FULL: Final = "Too many large bodies of this key wait to be read."


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnLimits:
    """`large_bytes`: smaller bodies need no turn. `loop_share`: of the loop's time, for one tenant. `bytes_s`: what
    one tenant's large bodies may come to in a second. `most`: as many may wait for their turn, `wait_s` each.
    """

    large_bytes: int
    loop_share: float
    bytes_s: float
    most: int
    wait_s: float


class _Lane:
    __slots__ = ("lock", "waiting")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting = 0


class Turns:
    """The lanes of all tenants. Event loop only."""

    def __init__(self) -> None:
        self._lanes: defaultdict[str, _Lane] = defaultdict(_Lane)

    async def run(
        self, limits: TurnLimits, tenant: str, size: int, work: Callable[[], Awaitable[T]]
    ) -> T:
        """What `work` returns, run when it is the tenant's turn for a body of `size` bytes.

        Raises:
            ApiError: `tenant_rate`: too many wait already, or this one has waited for long.
        """
        if size < limits.large_bytes:
            return await work()
        lane = self._lanes[tenant]
        if lane.lock.locked() and lane.waiting >= limits.most:
            raise ApiError("tenant_rate", _FULL)
        lane.waiting += 1
        try:
            async with asyncio.timeout(limits.wait_s):
                await lane.lock.acquire()
        except TimeoutError:
            raise ApiError("tenant_rate", _FULL) from None
        finally:
            lane.waiting -= 1
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            return await work()
        finally:
            rest_s = (loop.time() - began) * (1 / limits.loop_share - 1)
            loop.call_later(max(rest_s, size / limits.bytes_s), lane.lock.release)
