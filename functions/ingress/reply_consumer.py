"""The thread that reads this replica's reply partition for its waiters.

It decodes records and drops those of another epoch, without a waiter, or malformed.
It hands the rest to the event loop in batches.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Final

from events.codecs import kafka_codec
from events.errors import EventRejected
from events.event import Record
from events.names import PROBE
from functions.ingress.pending_requests import Waiters
from functions.ingress.reply_events import Reply, read_reply
from functions.ports.kafka import RecordTail
from functions.runtime.errors import PickspinError
from functions.runtime.restarting_thread import RestartingThread

log = logging.getLogger(__name__)

POLL_S: Final = 0.25
RETRY_S: Final = 0.5


class ReplyConsumer:
    """The thread over this replica's partition of `infer.replies`.

    `open_tail` opens the tail at the end of the partition (called in the thread, again after a failure).
    """

    def __init__(
        self,
        open_tail: Callable[[], RecordTail],
        waiters: Waiters,
        *,
        epoch: str,
        dropped: Callable[[str], None],
        poll_s: float = POLL_S,
    ) -> None:
        self._poll_s = poll_s
        self._open_tail = open_tail
        self._waiters = waiters
        self._epoch = epoch
        self._dropped = dropped
        self._caught_up = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._following = RestartingThread(self._read_on, name="replies", retry_s=RETRY_S)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._following.start()

    def is_caught_up(self) -> bool:
        """Whether the consumer has reached its start position and its thread is alive."""
        return self._caught_up.is_set() and self._following.is_alive()

    def close(self) -> None:
        self._following.close()

    def _read_on(self, stop: threading.Event) -> None:
        tail = self._open_tail()
        try:
            self._follow(tail, stop)
        finally:
            self._caught_up.clear()
            tail.close()

    def _follow(self, tail: RecordTail, stop: threading.Event) -> None:
        while not stop.is_set():
            records = tail.poll(self._poll_s)
            if tail.is_caught_up():
                self._caught_up.set()
            replies = [one for one in map(self._read, records) if one is not None]
            if replies and self._loop is not None:
                self._loop.call_soon_threadsafe(self._waiters.deliver, replies)

    def _read(self, record: Record) -> Reply | None:
        try:
            return self._read_strictly(record)
        except (EventRejected, PickspinError):
            self._dropped("malformed")
        except Exception:
            # The boundary of one record: followed anew, the tail would miss the replies behind it.
            log.exception("a reply cannot be read", extra={"offset": record.offset})
            self._dropped("malformed")
        return None

    def _read_strictly(self, record: Record) -> Reply | None:
        event = kafka_codec.from_record(record)
        if event.type == PROBE:
            return None  # our own (functions.ingress.background_tasks.probe)
        reply = read_reply(event, self._epoch)
        if isinstance(reply, str):
            self._dropped(reply)
            return None
        if reply.request_id not in self._waiters:
            self._dropped("nobody_waits")
            return None
        return reply
