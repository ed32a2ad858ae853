"""Whether the router answers. Without a router no request succeeds, so the ingress is not ready."""

import http.client
import threading
from typing import Final
from urllib.parse import urlsplit

from functions.ports.clock import Clock
from functions.runtime.restarting_thread import RestartingThread

FRESH_S: Final = 5.0
"""A router that is started again meanwhile has not gone: what was accepted waits for it on the log."""
LOOK_S: Final = 1.0
FIRST_LOOK_S: Final = 0.1
"""Until it has answered once: nobody is to wait for readiness longer than necessary."""
TIMEOUT_S: Final = 2.0


class RouterWatch:
    """Asks `<url>/readyz` on a thread of its own. An empty `url`: nothing is asked, and nothing held against it."""

    def __init__(self, url: str, clock: Clock) -> None:
        self._place = urlsplit(url)
        self._clock = clock
        self._good_at_s: float | None = None
        self._following = RestartingThread(self._follow, name="router", retry_s=LOOK_S)

    def start(self) -> None:
        if self._place.hostname:
            self._following.start()

    def close(self) -> None:
        self._following.close()

    def is_ready(self) -> bool:
        """It has answered lately."""
        if not self._place.hostname:
            return True
        at_s = self._good_at_s
        return at_s is not None and self._clock.monotonic_s() - at_s <= FRESH_S

    def look(self) -> None:
        """Asks once; a failure is only the absence of an answer."""
        connection = http.client.HTTPConnection(
            self._place.hostname or "", self._place.port, timeout=TIMEOUT_S
        )
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == http.HTTPStatus.OK:
                self._good_at_s = self._clock.monotonic_s()
        except (OSError, http.client.HTTPException):
            return
        finally:
            connection.close()

    def _follow(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self.look()
            stop.wait(FIRST_LOOK_S if self._good_at_s is None else LOOK_S)
