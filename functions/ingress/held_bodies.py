"""Bodies in memory: each call's own until it is written, and the space that large ones share.

Kafka and the blob store keep an accepted request. A call that waits for its answer must not keep
the bytes as well.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

_STATE: Final = "held_body"


class HeldBody:
    """The bytes of one call for its record. `release` drops them once they are written."""

    def __init__(
        self, enter: Callable[[int], Awaitable[None]], leave: Callable[[int], None]
    ) -> None:
        self.raw = b""
        self._enter = enter
        self._leave = leave
        self._size = 0

    async def reserve(self, size: int) -> None:
        """Waits for room for so many bytes, once."""
        if not self._size:
            await self._enter(size)
            self._size = size

    def release(self) -> None:
        """Forgets the bytes, and leaves the room."""
        self.raw = b""
        if self._size:
            self._leave(self._size)
            self._size = 0


def attach_body(state: MutableMapping[str, Any], held: HeldBody) -> HeldBody:
    """Stores the body in the call's state, so that `release_body` finds it in any case."""
    state[_STATE] = held
    return held


def get_body(state: MutableMapping[str, Any]) -> HeldBody:
    """What `attach_body` remembered."""
    held: HeldBody = state[_STATE]
    return held


def release_body(state: MutableMapping[str, Any]) -> None:
    """The call has ended: what it may hold is given back."""
    held = state.pop(_STATE, None)
    if isinstance(held, HeldBody):
        held.release()
