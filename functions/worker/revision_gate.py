"""Whether this worker's Knative revision may consume. Only one revision of a service may."""

import asyncio
from contextlib import suppress

from functions.worker.control_consumer import ControlConsumer


class RevisionGate:
    """Open while the topic is this worker's. `tell` may be called by any task of the event loop.

    Closed until the control topic has been read once, and while the controller's last word is another revision. A
    worker that does not know its revision, and a service of which nothing is said, are not held: a lost record may
    not stop a service.
    """

    def __init__(self, service: str, revision: str, control: ControlConsumer) -> None:
        self._service = service
        self._revision = revision
        self._control = control
        self._changed = asyncio.Event()

    def is_open(self) -> bool:
        return not self._revision or (self._control.is_caught_up() and not self.is_elsewhere())

    def is_elsewhere(self) -> bool:
        """Whether another revision is known to be active."""
        named = self._control.revision_of(self._service)
        return bool(self._revision) and named not in {None, self._revision}

    def tell(self) -> None:
        """Takes an announcement, for this service or another."""
        self._changed.set()

    async def wait(self, timeout_s: float) -> None:
        """Waits for an announcement, at most that long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        self._changed.clear()
