"""`RecordAppender` with kafka-python's idempotent producer, supervised.

One record that the broker refuses for good puts an idempotent producer into a state in which every later
send fails (kafka-python classifies any non-retriable error as fatal). So the size cap lies strictly below the
broker's, and when a producer turns fatal it is rebuilt once and the other records it took down are sent again:
a duplicate is harmless (readers dedupe), silence is not. A producer may also fall silent: one that loses the broker
while it asks for a new producer id (it does, when a record that it retried expires) waits for that answer for ever and
expires nothing any more (kafka-python 3.0.12). So what is not settled in time fails here, and the producer is rebuilt.
"""

import logging
import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final

from kafka import KafkaProducer
from kafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from events.record import PartitionId, Record
from functions.adapters.doorbell import Bell, bell_directory
from functions.errors import AppendFailed
from functions.settings import BrokerSettings

log = logging.getLogger(__name__)

MAX_SENDS: Final = 3
SILENCE_S: Final = 3.0
"""A producer that is this late with an expiry that it owes has fallen silent."""
_LOOK_S: Final = 1.0
MAX_PENDING_BYTES: Final = 64 * 1024 * 1024
_BLOCK_MS: Final = 2000
_TOO_LARGE: Final = (MessageSizeTooLargeError, RecordListTooLargeError)


@dataclass(slots=True)
class _Send:
    record: Record
    future: "Future[PartitionId]" = field(default_factory=Future)
    sends: int = 0
    producer: Any = None
    sent_s: float | None = None
    """When it was last given to a producer, monotonic; None: it waits for one."""


class KafkaAppender:
    """Thread-safe, and `append` never blocks.

    A topic's first record (whose metadata must be fetched) and every retry go through a thread of its own, later
    ones straight into the producer's buffer.
    """

    def __init__(self, settings: BrokerSettings, options: dict[str, Any]) -> None:
        self._settings = settings
        self._options = options | {
            "acks": "all",
            "enable_idempotence": True,
            "linger_ms": 0,
            "max_request_size": settings.max_record_bytes,
            "max_block_ms": _BLOCK_MS,
            "delivery_timeout_ms": int(settings.delivery_timeout_s * 1000),
            "request_timeout_ms": max(1000, int(settings.delivery_timeout_s * 500)),
            "allow_auto_create_topics": False,
            "metrics_enabled": False,
        }
        self._lock = threading.Lock()
        self._producer: Any = None
        self._warm: set[str] = set()
        self._pending_bytes = 0
        self._open: dict[int, _Send] = {}
        self._looked_s = 0.0
        self._slow: queue.SimpleQueue[_Send | None] = queue.SimpleQueue()
        self._is_closed = False
        self.rebuilds = 0
        is_embedded = settings.kind == "embedded"
        self._bell = Bell(bell_directory(settings.bootstrap)) if is_embedded else None
        self._thread = threading.Thread(target=self._run, name="appender", daemon=True)
        self._thread.start()

    def append(self, record: Record) -> "Future[PartitionId]":
        send = _Send(record)
        # From here on it cannot be cancelled: whoever settles it must not fail because its caller has gone.
        send.future.set_running_or_notify_cancel()
        if record.size_bytes > self._settings.max_record_bytes:
            limit = self._settings.max_record_bytes
            send.future.set_exception(
                AppendFailed(f"the record is larger than {limit} bytes", is_too_large=True)
            )
        elif self._is_closed:
            send.future.set_exception(AppendFailed("the appender is closed"))
        elif self._pending_bytes > MAX_PENDING_BYTES:
            send.future.set_exception(AppendFailed("too many bytes wait for the broker"))
        else:
            with self._lock:
                self._pending_bytes += record.size_bytes
                self._open[id(send)] = send
            if record.topic in self._warm and self._producer is not None:
                self._send(send)
            else:
                self._slow.put(send)
        return send.future

    def close(self, timeout_s: float) -> None:
        self._is_closed = True
        self._slow.put(None)
        self._thread.join(timeout_s)
        producer = self._producer
        if producer is not None and (error := _end(producer, timeout_s)):
            log.warning("not all was flushed", extra={"reason": type(error).__name__})
        if self._bell is not None:
            self._bell.close()

    def _run(self) -> None:
        while True:
            self._expire_silent()
            try:
                send = self._slow.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            if send is None:
                return
            self._send_slowly(send)

    def _send_slowly(self, send: _Send) -> None:
        deadline = time.monotonic() + self._settings.delivery_timeout_s
        while self._producer is None and not self._connect():
            if time.monotonic() > deadline or self._is_closed:
                break
            time.sleep(0.1)
        if self._producer is None:
            self._fail(send, AppendFailed("Kafka cannot be reached"))
        else:
            self._send(send)

    def _expire_silent(self) -> None:
        """Fails what a producer should have settled by itself, and replaces that producer."""
        now_s = time.monotonic()
        if now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        limit_s = now_s - self._settings.delivery_timeout_s - SILENCE_S
        with self._lock:
            late = [s for s in self._open.values() if s.sent_s is not None and s.sent_s < limit_s]
        for send in late:
            self._rebuild(send.producer)
            self._fail(send, AppendFailed("not acknowledged in time", is_unknown=True))

    def _connect(self) -> bool:
        try:
            self._producer = KafkaProducer(**self._options)
        except Exception as error:  # noqa: BLE001 - whatever it is, this thread must go on: it is the only one that sends
            log.warning("producer not connected", extra={"reason": type(error).__name__})
            return False
        return True

    def _send(self, send: _Send) -> None:
        record = send.record
        send.sends += 1
        send.producer = self._producer
        send.sent_s = time.monotonic()
        try:
            future = send.producer.send(
                record.topic,
                value=record.value,
                key=record.key,
                headers=list(record.headers),
                partition=record.partition,
            )
        except Exception as error:  # noqa: BLE001 - a RuntimeError, too, where the producer is replaced meanwhile
            self._failed(send, error)
            return
        self._warm.add(record.topic)
        future.add_callback(self._succeeded, send)
        future.add_errback(lambda error: self._failed(send, error))

    def _succeeded(self, send: _Send, metadata: Any) -> None:
        if not self._settle(send):
            return
        if self._bell is not None:
            self._bell.ring(metadata.topic)
        send.future.set_result(PartitionId(metadata.topic, metadata.partition))

    def _failed(self, send: _Send, error: BaseException) -> None:
        if isinstance(error, _TOO_LARGE):
            self._rebuild(send.producer)
            self._fail(
                send, AppendFailed("the broker refuses the record's size", is_too_large=True)
            )
        elif isinstance(error, KafkaTimeoutError):
            # The outcome is unknown, and the caller's own patience is over: no second try here.
            self._fail(send, AppendFailed("not acknowledged in time", is_unknown=True))
        elif send.sends < MAX_SENDS and not self._is_closed:
            self._rebuild(send.producer)
            if id(send) in self._open:
                send.sent_s = None
                self._slow.put(send)
        else:
            self._fail(send, AppendFailed(type(error).__name__, is_unknown=True))

    def _rebuild(self, broken: Any) -> None:
        with self._lock:
            if self._producer is not broken or broken is None:
                return
            self._producer = None
            self.rebuilds += 1
        log.warning("producer rebuilt", extra={"rebuilds": self.rebuilds})
        # Closing waits for the producer's own thread, which may be the caller: so elsewhere.
        threading.Thread(target=_end, args=(broken, 0.0), daemon=True).start()

    def _settle(self, send: _Send) -> bool:
        """Whether it was still open: of several ends of a record the first one counts."""
        with self._lock:
            if self._open.pop(id(send), None) is None:
                return False
            self._pending_bytes -= send.record.size_bytes
        return True

    def _fail(self, send: _Send, error: AppendFailed) -> None:
        if self._settle(send):
            send.future.set_exception(error)


def _end(producer: Any, timeout_s: float) -> KafkaError | None:
    """Closes a producer, its thread included; returns what kept it from sending what it still held.

    `close` gives up at a flush that takes too long and leaves the thread running, for ever where the broker is gone
    (kafka-python 3.0.12).
    """
    try:
        producer.close(timeout=timeout_s)
    except KafkaError as error:
        producer._sender.force_close()  # noqa: SLF001 - there is no other way
        return error
    return None
