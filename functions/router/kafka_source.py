"""A stand-in for Knative's KafkaSource: posts each request record to the router function.

It has the same contract: unordered, at least once, retried while the router is down. It commits
the lowest contiguous offset. Each thread keeps one connection open.
"""

import http.client
import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from events.codecs.http_codec import to_http
from events.codecs.kafka_codec import from_record
from events.errors import EventRejected
from events.event import Record
from functions.router.publisher import RouterPublisher
from functions.router.retry_policy import judge_status
from functions.runtime.errors import PickspinError

log = logging.getLogger(__name__)

KEPT_ANSWER_BYTES: Final = 1024


class NotTaken(PickspinError):
    """The router did not take the record; bring it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterAddress:
    """Where the router function listens; `timeout_s` bounds connecting and each wait for bytes."""

    host: str
    port: int
    timeout_s: float


class Source:
    """Starts deliveries; at most `in_flight` calls run at once."""

    def __init__(
        self, address: RouterAddress, publisher: RouterPublisher, *, in_flight: int
    ) -> None:
        self._address = address
        self._publisher = publisher
        self._local = threading.local()
        self._pool = ThreadPoolExecutor(in_flight, thread_name_prefix="delivery")

    def begin(self, record: Record) -> "Future[None]":
        """Delivers one record. The future fails with `NotTaken` where it must be brought again."""
        return self._pool.submit(self.deliver, record)

    def abandon(self, record: Record) -> "Future[None]":
        """Ends a record that fails again and again while others get through."""
        return self._publisher.abandon(record)

    def deliver(self, record: Record) -> None:
        """Returns when the router has handled the record, or the dead letter topic has it.

        Raises:
            NotTaken: the router is away, busy, or could not append.
        """
        try:
            headers, body = to_http(from_record(record))
        except EventRejected as error:
            self._wait(self._publisher.reject(record, error))
            return
        status = self._post(headers, body)
        judged = judge_status(status)
        if judged == "again":
            raise NotTaken("no answer" if status is None else f"status {status}")
        if judged == "hopeless":
            self._wait(self._publisher.keep(record, f"router_status_{status}"))

    def close(self) -> None:
        """Waits for running calls; each is bounded by the timeout."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _post(self, headers: dict[str, str], body: bytes) -> int | None:
        """The status, or None. A kept connection that the router has closed meanwhile is opened once more."""
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is not None:
            status = self._exchange(connection, headers, body)
            if status is not None:
                return status
        address = self._address
        connection = http.client.HTTPConnection(
            address.host, address.port, timeout=address.timeout_s
        )
        self._local.connection = connection
        return self._exchange(connection, headers, body)

    def _exchange(
        self, connection: http.client.HTTPConnection, headers: dict[str, str], body: bytes
    ) -> int | None:
        try:
            connection.request("POST", "/", body=body, headers=headers)
            answer = connection.getresponse()
            answer.read(KEPT_ANSWER_BYTES)
            if not answer.isclosed():
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            log.debug("router not reached", extra={"reason": type(error).__name__})
            connection.close()
            self._local.connection = None
            return None
        return answer.status

    def _wait(self, ending: "Future[None]") -> None:
        try:
            ending.result(self._address.timeout_s)
        except (PickspinError, TimeoutError) as error:
            raise NotTaken("the dead letter was not appended") from error
