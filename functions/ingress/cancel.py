"""Cancels requests: tells workers and the reaper."""

import logging
from concurrent.futures import Future
from typing import Literal

from events import builders, names
from events.codecs import kafka_codec
from events.event import PartitionId
from events.payloads import CancelData
from events.requests import Origin
from functions.ingress.dependencies import Dependencies

log = logging.getLogger(__name__)

CancelReason = Literal["client", "deadline", "duplicate", "disconnected"]


def send_cancel(
    deps: Dependencies, request_id: str, reason: CancelReason, tenant: str
) -> Future[PartitionId]:
    """Appends a cancel. Never blocks; a failure is logged."""
    event = builders.build_cancel(
        Origin(request_id=request_id, carried={names.TENANT: tenant}),
        CancelData(reason=reason),
        source=f"/ingress/{deps.instance}",
        now=deps.clock.now(),
    )
    out = builders.cancel_outgoing(event, topics=deps.topics)
    future = deps.appender.append(kafka_codec.outgoing_record(out))
    future.add_done_callback(_log_failure)
    return future


def _log_failure(future: Future[PartitionId]) -> None:
    error = future.exception()
    if error is not None:
        log.warning("a cancel was not written", extra={"reason": str(error)})
