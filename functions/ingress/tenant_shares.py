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


class SharedRoom:
    """Room that tenants share, and who holds how much of it. Event loop only."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self._freed = asyncio.Event()

    @property
    def taken(self) -> int:
        """How much is held."""
        return self._held.total()

    def try_enter(self, tenant: str, size: int, *, room: int, share: float) -> bool:
        """Takes `size` more of `room`; False where the tenant may have no more of it now. See `may_take`."""
        own, taken = self._held[tenant], self.taken
        if not may_take(own=own, taken=taken, places=room, share=share, size=size):
            return False
        self._held[tenant] += size
        return True

    async def enter(self, tenant: str, size: int, *, room: int, share: float) -> None:
        """Returns when `size` more of `room` is the tenant's."""
        while not self.try_enter(tenant, size, room=room, share=share):
            await self._freed.wait()

    def leave(self, tenant: str, size: int) -> None:
        """Gives it back."""
        self._held[tenant] -= size
        self._held += Counter()  # who holds none is forgotten
        self._freed.set()
        self._freed = asyncio.Event()
