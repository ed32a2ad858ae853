"""Until when everything on the log is in the store: who ends a request makes sure first that it has not ended yet."""

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from events.event import PartitionId
from events.names import Topics
from functions.ports.clock import Clock
from functions.ports.kafka import LagReader, Offsets
from functions.recorder.event_recorder import recorded_topics
from functions.recorder.expiry_rules import is_read

BLIND_S: Final = 60.0
"""Offsets that cannot be read for this long are asked for no more: requests must end."""

log = logging.getLogger(__name__)


class RecordedUntil:
    """Asks for the recorder group's offsets when it is asked itself. One thread owns it."""

    def __init__(self, *, lags: LagReader, clock: Clock, topics: Topics) -> None:
        self._lags = lags
        self._clock = clock
        self._topics = topics
        self._then: tuple[datetime, Mapping[PartitionId, Offsets]] | None = None
        self._until = datetime.min.replace(tzinfo=clock.now().tzinfo)
        self._blind_since: datetime | None = None

    def look(self) -> datetime:
        """An instant before which nothing is on the log that is not in the store; the newest that is known."""
        at = self._clock.now()
        offsets = self._offsets()
        if not offsets:
            self._blind_since = self._blind_since or at
            is_blind = at - self._blind_since >= timedelta(seconds=BLIND_S)
            return at if is_blind else self._until
        self._blind_since = None
        if is_read(offsets, offsets):
            self._until, self._then = at, None
        elif self._then is None:
            self._then = at, offsets
        elif is_read(self._then[1], offsets):
            # Under load there is always something that is not read; what was there a moment ago may be.
            self._until, self._then = self._then[0], (at, offsets)
        return self._until

    def _offsets(self) -> Mapping[PartitionId, Offsets]:
        group = self._topics.recorder_group
        try:
            return self._lags.lags({group: recorded_topics(self._topics)})[group]
        except Exception as error:  # noqa: BLE001 - clients raise what they like
            # While a broker is away: asked again at the next look.
            log.warning("offsets not read", extra={"reason": type(error).__name__})
            return {}
