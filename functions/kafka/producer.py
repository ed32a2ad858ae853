"""`RecordAppender` with librdkafka's idempotent producer.

librdkafka retries and expires by itself. What it cannot survive is a fatal error of an idempotent
producer: its sequence and the broker's have come apart. Then the producer is replaced, and what it
still held is sent again. A duplicate is harmless (readers dedupe), silence is not.
An error that belongs to one record, its size or its address, fails that record alone.

One thread polls. It settles the futures, and rings the embedded broker's bell once for all that one
poll brought.
"""

import logging
import threading
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from events.event import PartitionId, Record
from functions.kafka.embedded.doorbell import Bell, bell_directory
from functions.kafka.librdkafka import open_client
from functions.runtime.errors import AppendFailed
from functions.runtime.settings import BrokerSettings

log = logging.getLogger(__name__)

MAX_SENDS: Final = 3
"""Times that one record is given to a producer: a fatal error takes down whatever its producer held."""
MAX_PENDING_KBYTES: Final = 64 * 1024
MAX_PENDING_RECORDS: Final = 100_000
_OVERHEAD_BYTES: Final = 16 * 1024
"""What a batch of one record adds to `max_record_bytes`."""
_METADATA_MS: Final = 5000
"""A topic that no broker knows after this long does not exist."""
_POLL_S: Final = 1.0
_BUSY_POLL_S: Final = 0.01
_PURGE_S: Final = 0.5
_TOO_LARGE: Final = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})
_UNROUTABLE: Final = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - public names of the library's own errors
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    }
)
_TAKEN_DOWN: Final = frozenset(
    {
        KafkaError._FATAL,  # noqa: SLF001
        KafkaError._PURGE_QUEUE,  # noqa: SLF001
        KafkaError._PURGE_INFLIGHT,  # noqa: SLF001
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaError.UNKNOWN_PRODUCER_ID,
    }
)
"""What befell the producer, not the record."""
_EXPIRED: Final = frozenset({KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT})  # noqa: SLF001


@dataclass(slots=True, eq=False)
class _Send:
    record: Record
    future: "Future[PartitionId]" = field(default_factory=Future)
    sends: int = 0


class KafkaAppender:
    """Thread-safe, and `append` never blocks.

    Args:
        settings: limits, and whether the embedded broker's bell is to be rung.
        config: librdkafka's, of this client.
    """

    def __init__(self, settings: BrokerSettings, config: dict[str, Any]) -> None:
        self._max_record_bytes = settings.max_record_bytes
        timeout_ms = int(settings.delivery_timeout_s * 1000)
        self._config = config | {
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 0,
            "partitioner": "murmur2_random",
            "message.max.bytes": settings.max_record_bytes + _OVERHEAD_BYTES,
            "message.timeout.ms": timeout_ms,
            "request.timeout.ms": max(1000, timeout_ms // 2),
            "topic.metadata.propagation.max.ms": min(_METADATA_MS, timeout_ms),
            "queue.buffering.max.kbytes": MAX_PENDING_KBYTES,
            "queue.buffering.max.messages": MAX_PENDING_RECORDS,
            "retry.backoff.max.ms": 1000,
        }
        is_embedded = settings.kind == "embedded"
        self._bell = Bell(bell_directory(settings.bootstrap)) if is_embedded else None
        self._acknowledged: set[str] = set()
        self._again: deque[_Send] = deque()
        self._retired: list[Any] = []
        self._is_broken = False
        self._is_closed = threading.Event()
        self.rebuilds = 0
        self._producer = self._connect()
        self._thread = threading.Thread(target=self._run, name="appender", daemon=True)
        self._thread.start()

    def append(self, record: Record) -> "Future[PartitionId]":
        send = _Send(record)
        # From here on it cannot be cancelled: whoever settles it must not fail because its caller has gone.
        send.future.set_running_or_notify_cancel()
        if record.size_bytes > self._max_record_bytes:
            limit = self._max_record_bytes
            send.future.set_exception(
                AppendFailed(f"the record is larger than {limit} bytes", is_too_large=True)
            )
        elif self._is_closed.is_set():
            send.future.set_exception(AppendFailed("the appender is closed"))
        else:
            self._send(send)
        return send.future

    def close(self, timeout_s: float) -> None:
        if self._is_closed.is_set():
            return
        left = self._producer.flush(timeout_s)
        # The thread ends with its poll, within a second: nobody waits for that.
        self._is_closed.set()
        if left:
            log.warning("not all was flushed", extra={"count": left})
            self._producer.purge()
            self._producer.flush(_PURGE_S)
        while self._again:
            self._fail(self._again.popleft(), AppendFailed("the appender is closed"))
        if self._bell is not None:
            self._ring()
            self._bell.close()

    def _connect(self) -> Any:
        return open_client(Producer, self._config)

    def _run(self) -> None:
        while not self._is_closed.is_set():
            try:
                is_busy = self._is_broken or self._retired
                self._poll(_BUSY_POLL_S if is_busy else _POLL_S)
                self._ring()
                if self._is_broken:
                    self._rebuild()
                self._settle_retired()
                self._send_again()
            except Exception:  # loop boundary: this thread is the only one that settles
                log.exception("the appender's loop failed")
                self._is_closed.wait(_POLL_S)

    def _poll(self, timeout_s: float) -> None:
        try:
            self._producer.poll(timeout_s)
        except KafkaException as error:
            self._is_broken = self._is_broken or error.args[0].fatal()

    def _ring(self) -> None:
        if self._bell is None:
            return
        while self._acknowledged:
            self._bell.ring(self._acknowledged.pop())

    def _rebuild(self) -> None:
        broken, self._producer = self._producer, self._connect()
        self._is_broken = False
        self.rebuilds += 1
        log.warning("producer rebuilt", extra={"rebuilds": self.rebuilds})
        broken.purge()
        self._retired.append(broken)

    def _settle_retired(self) -> None:
        """What replaced producers held comes back as purged, a little later."""
        for retired in self._retired:
            with suppress(KafkaException):  # it is known to be broken
                retired.poll(0)
        self._retired = [one for one in self._retired if len(one) > 0]

    def _send_again(self) -> None:
        for _ in range(len(self._again)):
            self._send(self._again.popleft())

    def _send(self, send: _Send) -> None:
        record = send.record
        send.sends += 1
        try:
            self._producer.produce(
                record.topic,
                record.value,
                record.key,
                -1 if record.partition is None else record.partition,
                lambda error, message: self._on_delivery(send, error, message),
                headers=list(record.headers),
            )
        except BufferError:
            self._fail(send, AppendFailed("too many bytes wait for the broker"))
        except KafkaException as error:
            self._failed(send, error.args[0])
        except (TypeError, ValueError) as error:
            self._fail(send, AppendFailed(f"not a record: {error}"))

    def _on_delivery(self, send: _Send, error: Any, message: Any) -> None:
        """Called by the poll of this object's thread (`flush` and `purge` of closing aside)."""
        if error is not None:
            self._failed(send, error)
            return
        if self._bell is not None:
            self._acknowledged.add(send.record.topic)
        send.future.set_result(PartitionId(send.record.topic, message.partition()))

    def _failed(self, send: _Send, error: Any) -> None:
        code = error.code()
        if code in _TOO_LARGE:
            refused = AppendFailed("the broker refuses the record's size", is_too_large=True)
        elif code in _UNROUTABLE:
            refused = AppendFailed("there is no such topic or partition", is_unroutable=True)
        elif code in _EXPIRED:
            refused = AppendFailed("not acknowledged in time", is_unknown=True)
        elif code in _TAKEN_DOWN or error.fatal():
            self._taken_down(send, error)
            return
        else:
            refused = AppendFailed(error.name(), is_unknown=True)
        self._fail(send, refused)

    def _taken_down(self, send: _Send, error: Any) -> None:
        if error.fatal() or error.code() == KafkaError._FATAL:  # noqa: SLF001
            self._is_broken = True
        if send.sends < MAX_SENDS and not self._is_closed.is_set():
            self._again.append(send)
        else:
            self._fail(send, AppendFailed(error.name(), is_unknown=True))

    @staticmethod
    def _fail(send: _Send, error: AppendFailed) -> None:
        if not send.future.done():
            send.future.set_exception(error)
