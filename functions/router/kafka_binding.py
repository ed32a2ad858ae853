"""The log binding: the router as a consumer of the request topic, without HTTP."""

from concurrent.futures import Future
from typing import Final

from events.codecs.kafka_codec import from_record
from events.errors import EventRejected
from events.event import Record
from functions.router.router import Router

IN_FLIGHT: Final = 128
"""Records whose appends may be outstanding at once."""


class LogBinding:
    """Turns records into calls of the router; the work begins in the calling thread, in log order."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def begin(self, record: Record) -> "Future[None]":
        """Routes a record's event, or puts the record on the dead letter topic where it holds none."""
        try:
            event = from_record(record)
        except EventRejected as error:
            return self._router.reject(record, error)
        return self._router.route(event)

    def abandon(self, record: Record) -> "Future[None]":
        """Ends a record that fails again and again while others get through."""
        return self._router.abandon(record)
