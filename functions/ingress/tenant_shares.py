"""Places that tenants share, so that each finds some."""

import asyncio
from collections import Counter


def may_take(*, own: int, taken: int, places: int, share: float, size: int = 1) -> bool:
    """Whether a tenant that holds `own` of the `taken` places gets a further one, or `size` of them.

    Alone it gets `share` of all places. What others hold counts for each: with n greedy tenants at share 1/2 each has
    1/(n + 1), and as much stays free for the next one. A share of 1 is no bound but the places themselves.
    """
    free = places - taken
    if free < size:
        return False
    # The last one of them is as good or bad as one that is asked for alone.
    return (own + size - 1) * (1 - share) < share * (free - size + 1)


class Shares:
    """Places by tenant. Event loop only."""

    def __init__(self, places: int, share: float) -> None:
        self._places = places
        self._share = share
        self._held: Counter[str] = Counter()
        self._taken = 0

    @property
    def is_full(self) -> bool:
        return self._taken >= self._places

    def take(self, tenant: str) -> bool:
        """Takes a place; False where the tenant may have no further one."""
        own = self._held[tenant]
        if not may_take(own=own, taken=self._taken, places=self._places, share=self._share):
            return False
        self._held[tenant] += 1
        self._taken += 1
        return True

    def free(self, tenant: str) -> None:
        """Gives one place back."""
        self._taken -= 1
        self._held[tenant] -= 1
        if not self._held[tenant]:
            del self._held[tenant]


class SharedRoom:
    """Space that calls wait for, by tenant. Event loop only."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self._freed = asyncio.Event()

    @property
    def taken(self) -> int:
        """How much is held."""
        return self._held.total()

    async def enter(self, tenant: str, size: int, *, room: int, share: float) -> None:
        """Returns when `size` more of `room` is the tenant's. See `may_take`."""
        while not may_take(
            own=self._held[tenant], taken=self.taken, places=room, share=share, size=size
        ):
            await self._freed.wait()
        self._held[tenant] += size

    def leave(self, tenant: str, size: int) -> None:
        """Gives it back."""
        self._held[tenant] -= size
        self._held += Counter()  # who holds none is forgotten
        self._freed.set()
        self._freed = asyncio.Event()
