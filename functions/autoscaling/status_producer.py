"""Publishes each service's status as the scaler sees it: on a change, else every two seconds."""

import zlib
from typing import Final

from events.builders import build_status
from events.codecs.kafka_codec import outgoing_record
from events.event import Outgoing
from events.names import ReplicaState, Topics
from events.payloads import StatusData
from functions.ports.clock import Clock
from functions.ports.kafka import RecordAppender

REPEAT_S: Final = 2.0
"""An entry older than 10 s counts as gone."""
LAG_REPEAT_S: Final = 0.5
"""Changes of lag and ETA alone go out at most this often."""


class StatusProducer:
    """Publishes status events. It awaits no append: the next round repeats a failed one."""

    def __init__(self, appender: RecordAppender, topics: Topics, clock: Clock) -> None:
        self._appender, self._topics, self._clock = appender, topics, clock
        self._last: dict[str, tuple[StatusData, float]] = {}

    def publish(self, status: StatusData) -> None:
        """Publishes the scaler's status of a service when it is new enough to matter."""
        now_s = self._clock.monotonic_s()
        known = self._last.get(status.service)
        if known is not None and now_s - known[1] < _compute_pause_s(known[0], status):
            return
        # The first repeats are spread: else services published together would repeat together.
        early_s = REPEAT_S * _compute_share(status.service) if known is None else 0.0
        self._last[status.service] = (status, now_s - early_s)
        self._append(status)

    def publish_stopped(self, slug: str, replica: str) -> None:
        """Takes the replica of an ended process out of every registry, however it ended."""
        self._append(
            StatusData(
                service=slug, replica=replica, state=ReplicaState.STOPPED, at=self._clock.now()
            )
        )

    def close(self, timeout_s: float) -> None:
        """Flushes what was told."""
        self._appender.close(timeout_s)

    def _append(self, status: StatusData) -> None:
        outgoing = Outgoing(
            topic=self._topics.status,
            key=f"{status.service}/{status.replica}",
            event=build_status(status),
        )
        self._appender.append(outgoing_record(outgoing))


def _compute_share(slug: str) -> float:
    """A number in [0, 1) that is always the same for a service and spreads services evenly."""
    return (zlib.crc32(slug.encode()) % 1000) / 1000


def _compute_pause_s(last: StatusData, status: StatusData) -> float:
    if _essence(last) != _essence(status):
        return 0.0
    return LAG_REPEAT_S if last.lag != status.lag else REPEAT_S


def _essence(status: StatusData) -> tuple[object, ...]:
    return status.state, status.desired, status.replicas, status.message, status.breaker
