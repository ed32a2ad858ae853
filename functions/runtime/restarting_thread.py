"""A thread that follows a topic and restarts after every failure."""

import logging
import threading
from collections.abc import Callable
from typing import Final

RETRY_S: Final = 1.0
CLOSE_S: Final = 5.0

log = logging.getLogger(__name__)


class RestartingThread:
    """Runs `follow` on a daemon thread until `close`, again after a pause when it raises.

    Args:
        follow: gets the event that ends it; opens what it follows, and closes that whichever way it ends.
        name: of the thread, and of what is followed in the log's words.
        retry_s: pause after a failure.
    """

    def __init__(
        self, follow: Callable[[threading.Event], None], *, name: str, retry_s: float = RETRY_S
    ) -> None:
        self._follow = follow
        self._name = name
        self._retry_s = retry_s
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def is_alive(self) -> bool:
        """Started, and not at its end."""
        return self._thread.is_alive()

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Ends the thread and waits for it, at most that long; before `start` it does nothing."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._follow(self._closing)
            except Exception as error:  # noqa: BLE001 - the loop's boundary: whatever a client library raises
                reason = f"{type(error).__name__}: {error}"
                log.warning("followed anew", extra={"followed": self._name, "reason": reason})
                self._closing.wait(self._retry_s)
