"""Announces on the control topic which revision holds each service's topic.

It does so at every change, and again before the topic drops the record.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Final

from events import builders
from events.codecs import kafka_codec
from events.names import Topics
from events.payloads import RevisionData
from functions.controller.knative_class.pod_autoscaler import PodAutoscaler, find_serving
from functions.ports.clock import Clock
from functions.ports.kafka import RecordAppender
from functions.ports.kubernetes import Object

log = logging.getLogger(__name__)

AGAIN_S: Final = 600.0
"""Well within the time for which the control topic keeps records."""
RETRY_S: Final = 2.0


def find_holders(autoscalers: Iterable[Object]) -> Mapping[str, str]:
    """The revision that holds the topic, by slug; absent while no revision does."""
    groups: dict[str, list[Object]] = defaultdict(list)
    for each in autoscalers:
        groups[PodAutoscaler.parse(each).configuration].append(each)
    revisions = (find_serving(siblings) for siblings in groups.values())
    return {each.service: each.name for each in revisions if each is not None and each.service}


class RevisionAnnouncer:
    """Owned by the loop's thread. It tries a broker that is away again."""

    def __init__(
        self, open_appender: Callable[[], RecordAppender], topics: Topics, clock: Clock
    ) -> None:
        self._open_appender = open_appender
        self._topics = topics
        self._clock = clock
        self._appender: RecordAppender | None = None
        self._told: dict[str, tuple[str, float]] = {}
        self._pending: dict[str, tuple[str, Future[Any]]] = {}
        self._retry_s = 0.0

    def tick(self, autoscalers: Iterable[Object]) -> int:
        """Appends what is new or old; returns how many records. Does not wait for the broker."""
        self._take_answers()
        now_s = self._clock.monotonic_s()
        due = [
            (service, revision)
            for service, revision in sorted(find_holders(autoscalers).items())
            if service not in self._pending and self._is_due(service, revision, now_s)
        ]
        if not due or now_s < self._retry_s:
            return 0
        try:
            appender = self._appender = self._appender or self._open_appender()
        except Exception as error:  # noqa: BLE001 - whatever the client raises: the broker is away
            log.warning("revisions not told", extra={"reason": type(error).__name__})
            self._retry_s = now_s + RETRY_S
            return 0
        for service, revision in due:
            data = RevisionData(service=service, revision=revision, at=self._clock.now())
            out = builders.revision_outgoing(builders.build_revision(data), topics=self._topics)
            self._pending[service] = revision, appender.append(kafka_codec.outgoing_record(out))
        return len(due)

    def forget(self) -> None:
        """Forgets the announcements: another process may have led since."""
        self._told.clear()

    def close(self, timeout_s: float) -> None:
        if self._appender is not None:
            self._appender.close(timeout_s)

    def _is_due(self, service: str, revision: str, now_s: float) -> bool:
        told = self._told.get(service)
        return told is None or told[0] != revision or now_s - told[1] >= AGAIN_S

    def _take_answers(self) -> None:
        now_s = self._clock.monotonic_s()
        for service, (revision, future) in list(self._pending.items()):
            if not future.done():
                continue
            del self._pending[service]
            if future.exception() is None:
                before = self._told.get(service)
                self._told[service] = revision, now_s
                if before is None or before[0] != revision:
                    log.info("named", extra={"service": service, "revision": revision})
            else:
                self._retry_s = now_s + RETRY_S
