"""The consumer of the control topic: cancelled requests, and the active revision of the service."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from events import builders
from events.codecs import kafka_codec
from events.errors import EventRejected
from events.event import Event, Record
from events.names import CANCEL, REVISION
from functions.ports.kafka import RecordTail
from functions.runtime.restarting_thread import RestartingThread

log = logging.getLogger(__name__)

MOST_CANCELLED: Final = 100_000
_POLL_S: Final = 0.5
_BACKOFF_S: Final = 0.5


class ControlConsumer:
    """Reads `infer.control` from its start. `on_cancel` gets each cancelled request id, in this thread; so does
    `on_revision` each service whose revision was named.
    """

    def __init__(
        self,
        open_tail: Callable[[], RecordTail],
        on_cancel: Callable[[str], None],
        on_revision: Callable[[str], None] = lambda _service: None,
    ) -> None:
        self._following = RestartingThread(self._follow, name="control", retry_s=_BACKOFF_S)
        self._open_tail = open_tail
        self._on_cancel = on_cancel
        self._on_revision = on_revision
        self._revisions: dict[str, str] = {}
        self._cancelled: OrderedDict[str, None] = OrderedDict()
        self._caught_up = threading.Event()

    def is_cancelled(self, request_id: str) -> bool:
        """Whether a cancel of that request was read; thread-safe."""
        return request_id in self._cancelled

    def revision_of(self, service: str) -> str | None:
        """The revision that was named last for a service; None: none was, as far as has been read. Thread-safe."""
        return self._revisions.get(service)

    def is_caught_up(self) -> bool:
        """Whether everything that was there at the start has been read."""
        return self._caught_up.is_set()

    def wait_until_caught_up(self, timeout_s: float) -> None:
        """Waits until `is_caught_up`, at most that long."""
        self._caught_up.wait(timeout_s)

    def start(self) -> None:
        self._following.start()

    def close(self, timeout_s: float) -> None:
        self._following.close(timeout_s)

    def _follow(self, stop: threading.Event) -> None:
        tail = self._open_tail()
        try:
            while not stop.is_set():
                started_s = time.monotonic()
                for record in tail.poll(_POLL_S):
                    self._take(record)
                if not self._caught_up.is_set() and tail.is_caught_up():
                    self._caught_up.set()
                if time.monotonic() - started_s < _POLL_S / 10:
                    stop.wait(_POLL_S / 10)  # a tail that does not wait must not spin
        finally:
            tail.close()

    def _take(self, record: Record) -> None:
        try:
            self._read(kafka_codec.from_record(record))
        except EventRejected as error:
            log.warning("not a control event", extra={"reason": error.reason})
        except Exception:
            # The boundary of one record: followed anew, it would come again.
            log.exception("a control event cannot be read", extra={"offset": record.offset})

    def _read(self, event: Event) -> None:
        if event.type == REVISION:
            named = builders.parse_revision(event)
            self._revisions[named.service] = named.revision
            self._on_revision(named.service)
        elif event.type == CANCEL:
            request_id = builders.parse_cancel(event).request_id
            self._cancelled[request_id] = None
            if len(self._cancelled) > MOST_CANCELLED:
                self._cancelled.popitem(last=False)
            self._on_cancel(request_id)
