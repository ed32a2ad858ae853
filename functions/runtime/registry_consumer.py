"""Keeps the Service Registry current: a thread that folds the compacted status topic.

Router and ingress each have one. `.registry` is immutable and replaced as a whole.
"""

import logging
import threading
from collections import OrderedDict
from typing import Final

from events import names
from events.codecs.kafka_codec import from_record
from events.errors import EventRejected
from events.event import Record
from events.names import Topics
from events.parsers import parse_decision, parse_status
from functions.ports.kafka import RecordLog
from functions.runtime.restarting_thread import RestartingThread
from router_model.service_registry import Registry

log = logging.getLogger(__name__)

MAX_DECISIONS: Final = 100_000
"""Recent decisions kept for replays; the oldest go first."""
POLL_S: Final = 0.5
GATHER_S: Final = 0.1
"""Between two polls: every routed request writes here, and states this fresh are fresh enough."""
RETRY_S: Final = 1.0


class RegistryFold:
    """Folds records of the status topic, in order, into a registry. No I/O; belongs to one thread."""

    def __init__(self, max_decisions: int = MAX_DECISIONS) -> None:
        self._max_decisions = max_decisions
        self._decisions: OrderedDict[str, str] = OrderedDict()
        self.registry = Registry(decisions=self._decisions)

    def fold(self, records: tuple[Record, ...]) -> None:
        """Applies records; what cannot be read is skipped."""
        registry = self.registry
        for record in records:
            try:
                registry = self._apply(registry, record)
            except EventRejected as error:
                log.warning("status record skipped", extra={"reason": error.reason})
            except Exception:
                # The boundary of one record: followed anew, it would come again.
                log.exception("status record not read", extra={"offset": record.offset})
        self.registry = registry

    def _apply(self, registry: Registry, record: Record) -> Registry:
        if record.value is None and record.unreadable is None:
            return self._remove(registry, record.key)
        event = from_record(record)
        if event.data is None:
            return self._remove(registry, record.key)
        if event.type == names.DECISION:
            self._remember(*parse_decision(event))
            return registry
        if event.type != names.STATUS:
            return registry
        return registry.apply(parse_status(event))

    def _remove(self, registry: Registry, key: bytes | None) -> Registry:
        service, _, replica = (key or b"").decode("utf-8", "replace").partition("/")
        if service == "decision":
            self._decisions.pop(replica, None)
            return registry
        return registry.remove(service, replica)

    def _remember(self, request_id: str, service: str) -> None:
        # One shared mapping, not a copy a decision: readers only ever look single keys up, which is atomic.
        self._decisions[request_id] = service
        while len(self._decisions) > self._max_decisions:
            self._decisions.popitem(last=False)


class RegistryConsumer:
    """The thread around a `RegistryFold`. `close` ends it; a broker that is away is tried again for ever."""

    def __init__(self, log: RecordLog, topics: Topics, client: str) -> None:
        self._log = log
        self._topic = topics.status
        self._client = client
        self._fold = RegistryFold()
        self._caught_up = threading.Event()
        self._following = RestartingThread(self._follow, name="registry", retry_s=RETRY_S)

    @property
    def registry(self) -> Registry:
        """What is known now."""
        return self._fold.registry

    def is_caught_up(self) -> bool:
        """True once everything that was on the topic when the tail opened has been folded in."""
        return self._caught_up.is_set()

    def wait_until_caught_up(self, timeout_s: float) -> bool:
        """Waits until it is, at most that long; returns whether it is."""
        return self._caught_up.wait(timeout_s)

    def start(self) -> None:
        self._following.start()

    def close(self) -> None:
        """Ends the thread, waiting for its last poll."""
        self._following.close()

    def _follow(self, stop: threading.Event) -> None:
        tail = self._log.tail(topics=(self._topic,), client=self._client, from_start=True)
        try:
            while not stop.is_set():
                self._fold.fold(tail.poll(POLL_S))
                if not self._caught_up.is_set():
                    if tail.is_caught_up():
                        self._caught_up.set()
                else:
                    stop.wait(GATHER_S)
        finally:
            tail.close()
