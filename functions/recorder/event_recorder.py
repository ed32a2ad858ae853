"""The consumer that writes events into the store: poll, one transaction, commit.

A crash repeats changes, and repeated changes have no effect.
A record that cannot be read or stored is skipped, counted and logged.
"""

import logging
from collections.abc import Sequence

from events.event import Record
from events.names import Topics
from functions.ports.blobs import BlobStore
from functions.ports.clock import Clock
from functions.ports.kafka import GroupConsumer
from functions.ports.store import Change, RequestStore
from functions.recorder.event_to_change import build_change
from functions.runtime.log_consumer import LogConsumer
from functions.runtime.telemetry import Metrics

log = logging.getLogger(__name__)


def recorded_topics(topics: Topics) -> tuple[str, ...]:
    """What the recorder reads."""
    return (topics.requests, topics.progress, topics.responses, topics.control)


def make_recorder(
    *,
    consumer: GroupConsumer,
    store: RequestStore,
    blobs: BlobStore,
    clock: Clock,
    metrics: Metrics,
    wait_s: float,
) -> LogConsumer[Change]:
    """One member of the recorder group. `wait_s` after its time is the deadline of a request that names none."""

    def read(record: Record) -> Change | None:
        return build_change(record, blobs, wait_s=wait_s, now=clock.now())

    def write(changes: Sequence[Change]) -> None:
        # An end after the end changes nothing, but somebody may have been told it.
        for request_id, what in store.record_batch(changes).other_ends:
            metrics.other_ends.labels(differs=what).inc()
            log.warning("request ended again", extra={"request_id": request_id, "differs": what})

    return LogConsumer(
        consumer=consumer, read=read, write=write, metrics=metrics, reader="recorder"
    )
