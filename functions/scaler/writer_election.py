"""Elects the replica that writes to the status topic, by a consumer group.

All replicas join one group on the control topic; partition 0 has one owner at a time, the writer.
It needs no lock service and no right on Kubernetes.
A dead owner is replaced after the session timeout.
Until then two may write, which is harmless: an entry is a state, and the newest one counts.
"""

import logging
import threading
from typing import Final

from events.event import PartitionId
from events.names import Topics
from functions.ports.kafka import GroupConsumer, RecordLog
from functions.runtime.restarting_thread import RestartingThread

POLL_S: Final = 0.5

log = logging.getLogger(__name__)


class WriterElection:
    """A thread that is a member of the group. `is_elected` may be asked by any thread."""

    def __init__(self, record_log: RecordLog, topics: Topics, client: str) -> None:
        self._log, self._topics, self._client = record_log, topics, client
        self._prize = PartitionId(topics.control, 0)
        self._is_elected = False
        self._following = RestartingThread(self._take_part, name="election")

    def is_elected(self) -> bool:
        """Whether this replica is the one that writes."""
        return self._is_elected

    def start(self) -> None:
        self._following.start()

    def close(self) -> None:
        """Leaves the group, so that another replica takes over at once."""
        self._following.close()

    def _take_part(self, stop: threading.Event) -> None:
        consumer = self._log.group(
            group=self._topics.scaler_group, topics=(self._topics.control,), client=self._client
        )
        try:
            while not stop.is_set():
                self._look(consumer)
        finally:
            self._is_elected = False
            consumer.close()

    def _look(self, consumer: GroupConsumer) -> None:
        # Only the assignment is wanted, never the records.
        consumer.pause(consumer.poll(POLL_S).gained)
        is_elected = self._prize in consumer.assignment()
        if is_elected is not self._is_elected:
            self._is_elected = is_elected
            log.info("writer of the status topic" if is_elected else "standby")
