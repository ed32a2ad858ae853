"""Ends jobs without a model call: refused ones, and those that died before it."""

import logging
from typing import Final

from events.payloads import PickspinData
from functions.runtime.errors import ApiError
from functions.runtime.telemetry import Metrics
from functions.worker.consumer_thread import JobFinished
from functions.worker.job import Job, RefusedRecord
from functions.worker.reply_producer import ReplyProducer
from functions.worker.request_log import log_end
from functions.worker.usage import build_refused_usage
from router_model.catalogue.model import Model, Service

log = logging.getLogger(__name__)

_DIED: Final = ApiError("internal", "an error inside the gateway")


class UnrunJobs:
    """Owned by the event loop."""

    def __init__(
        self, *, service: Service, model: Model, publisher: ReplyProducer, metrics: Metrics
    ) -> None:
        self._service = service
        self._model = model
        self._publisher = publisher
        self._metrics = metrics

    async def refuse(self, job: Job, refusal: RefusedRecord) -> JobFinished:
        """Refuses a job. Returns when the caller's reply, the dead letter, or both are written."""
        if refusal.dead_letter_reason is not None:
            await self._publisher.dead_letter(job.record, refusal.dead_letter_reason)
        if refusal.origin is not None:
            known = PickspinData(
                request_id=refusal.origin.request_id,
                state="failed",
                service=self._service.slug,
                model=self._model.id,
                attempt=job.attempt or job.prior,
            )
            log_end(known, reason=refusal.error.code)
            event = self._publisher.failed(
                refusal.origin,
                refusal.error,
                source=f"/models/{self._service.slug}",
                pickspin=build_refused_usage(job.request, known),
            )
            await self._publisher.terminal(event, refusal.reply)
        self._metrics.attempts.labels(self._service.slug, refusal.error.code).inc()
        return JobFinished(job)

    async def bury(self, job: Job, reason: str) -> JobFinished:
        """The last resort, after a fault of ours (a class name): a dead letter, and a failed terminal where anybody can
        be told. Whatever fails in this too, the job is finished: its slot is not lost with it.
        """
        known = job.refusal or RefusedRecord(_DIED, None, None)
        if job.request is not None:
            known = RefusedRecord(_DIED, None, job.request.origin, job.request.reply)
        try:
            await self.refuse(
                job, RefusedRecord(_DIED, f"internal:{reason}", known.origin, known.reply)
            )
        except Exception:
            log.exception("a job ended without a terminal", extra={"request_id": job.request_id})
        return JobFinished(job)
