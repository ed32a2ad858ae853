"""Partitions of the reply topics, so that an address that does not exist can be refused at once."""

import logging
import threading
from collections.abc import Callable
from typing import Final

from functions.ports.clock import Clock
from functions.ports.kafka import OffsetReader

LOOK_S: Final = 5.0
"""Partitions may be added: who names one that was not there is looked up again, this often at most."""

log = logging.getLogger(__name__)


class ReplyPartitions:
    """Known partitions of the reply topics. Thread-safe.

    An unknown one makes it ask the broker, for all `topics` together.
    """

    def __init__(
        self, open_reader: Callable[[], OffsetReader], topics: tuple[str, ...], clock: Clock
    ) -> None:
        self._open_reader = open_reader
        self._topics = topics
        self._clock = clock
        self._looking = threading.Lock()
        self._reader: OffsetReader | None = None
        self._counts: dict[str, int] = {}
        self._looked_s: float | None = None

    def has(self, topic: str, partition: int) -> bool:
        """Whether the topic has that partition. True if unknown: then the append decides.

        It may ask the broker, and wait for it.
        """
        if self._is_known(topic, partition):
            return True
        if topic in self._topics:
            self._look()
        return topic not in self._counts or self._is_known(topic, partition)

    def close(self) -> None:
        with self._looking:
            self._drop()

    def _is_known(self, topic: str, partition: int) -> bool:
        return partition < self._counts.get(topic, 0)

    def _look(self) -> None:
        """Asks the broker, unless a request is open or was made a moment ago."""
        if not self._looking.acquire(blocking=False):
            return
        try:
            now_s = self._clock.monotonic_s()
            if self._looked_s is not None and now_s - self._looked_s < LOOK_S:
                return
            self._looked_s = now_s
            if self._reader is None:
                self._reader = self._open_reader()
            self._reader.refresh()
            offsets = self._reader.ends(self._topics)
            self._counts |= {topic: len(ends) for topic, ends in offsets.items()}
        except Exception as error:  # noqa: BLE001 - whatever a client library raises: then nobody knows
            log.warning("reply topics not looked up", extra={"reason": type(error).__name__})
            self._drop()
        finally:
            self._looking.release()

    def _drop(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
