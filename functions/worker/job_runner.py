"""Runs one job: progress, the model call, chunks, and the terminal."""

import asyncio
import logging
import math
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final, Literal

from events import builders
from events.cascade_attribute import build_next_step
from events.destinations import is_waited_for, routed_outgoing
from events.event import Event, PartitionId
from events.names import SERVICE
from events.payloads import PickspinData, ProgressData
from events.requests import RoutedRequest
from functions.ports.clock import Clock
from functions.runtime.backoff import Backoff, jittered
from functions.runtime.errors import ApiError, AppendFailed
from functions.runtime.telemetry import Metrics
from functions.worker.attempts import Attempt
from functions.worker.backend_attempt import BackendAttempt
from functions.worker.backend_client import BackendAnswer, BackendClient
from functions.worker.backend_errors import BadReply, CallFailed
from functions.worker.backend_request import BackendRequest, build_backend_request, check_abilities
from functions.worker.cascade_step import (
    HeldStream,
    OnChunk,
    StepEnd,
    Unsure,
    add_logprobs,
    asks_logprobs,
    build_cascade_used,
    count_calls_left,
    count_tokens,
    has_next_service,
    has_stand_by,
    judge_failure,
)
from functions.worker.consumer_thread import JobFinished, JobRetry, Outcome
from functions.worker.job import Job
from functions.worker.job_context import JobContext
from functions.worker.replica_stats import ReplicaStats
from functions.worker.reply_producer import ChunkSender, ReplyProducer, Unkept
from functions.worker.request_log import log_end, log_start
from functions.worker.unrun_jobs import UnrunJobs
from functions.worker.usage import Account, compute_cost
from router_model.cascade.plan import make_judge

log = logging.getLogger(__name__)

_BACKOFF: Final = Backoff(0.2)
_LATE: Final = ApiError("deadline_exceeded", "the deadline passed while the model was working")
_MAX_BAD_REPLIES: Final = 2
"""Model calls after which an unreadable answer is final."""


class JobRunner:
    """Runs jobs handed over by the poll thread, each as a task. Owned by the event loop."""

    def __init__(
        self,
        *,
        serving: JobContext,
        caller: BackendClient,
        publisher: ReplyProducer,
        report: Callable[[Outcome], None],
        clock: Clock,
        metrics: Metrics,
        measured: ReplicaStats,
    ) -> None:
        self._serving = serving
        self._caller = caller
        self._publisher = publisher
        self._report = report
        self._clock = clock
        self._metrics = metrics
        self._measured = measured
        self._runs: dict[str, Attempt] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        self._ending = UnrunJobs(
            service=serving.service, model=serving.model, publisher=publisher, metrics=metrics
        )
        self._in_flight = metrics.in_flight.labels(serving.service.slug)
        self._closed: str | None = None
        self._is_closed_for_good = False
        self.handled = 0
        """Jobs that were ever handed over."""
        self._calling = BackendAttempt(serving, caller, publisher.topics, self._count)

    @property
    def in_flight(self) -> int:
        return len(self._tasks)

    def start(self, jobs: list[Job]) -> None:
        """Starts each job, or refuses it."""
        self.handled += len(jobs)
        for job in jobs:
            task = asyncio.create_task(self._work(job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def close(self, why: str, *, is_final: bool) -> None:
        """From now on the model is not called: jobs go to a service that stands by. Where none does they fail for that
        reason, or, where it is not final, stay where they are.
        """
        self._closed, self._is_closed_for_good = why, is_final

    def cancel(self, request_id: str) -> None:
        """Stops the model call of a request, if it runs here; its terminal is `cancelled`."""
        run = self._runs.get(request_id)
        if run is not None and run.task is not None and not run.is_cancelled:
            run.is_cancelled = True
            run.task.cancel()

    async def stop(self) -> None:
        """Ends what still runs without an outcome: it stays uncommitted and is run again elsewhere."""
        self._is_stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self, job: Job) -> None:
        """One job to its outcome. Whatever fails on the way, the job's owner hears of it: it holds a slot for it."""
        try:
            outcome = await self._outcome(job)
        except asyncio.CancelledError:
            if self._is_stopping:
                raise
            outcome = await self._ending.bury(job, "CancelledError")
        except Exception as bug:
            # The loop boundary: one job's fault is its own end.
            log.exception("a job died", extra={"request_id": job.request_id})
            outcome = await self._ending.bury(job, type(bug).__name__)
        self._report(outcome)

    async def _outcome(self, job: Job) -> Outcome:
        if job.refusal is not None:
            return await self._ending.refuse(job, job.refusal)
        if job.request is None:
            raise AssertionError("a job has a request or a refusal")
        if (
            self._closed is not None
            and not self._is_closed_for_good
            and not has_next_service(job.request)
        ):
            return JobRetry(job, math.inf, is_counted=False)
        return await self._run(job, job.request)

    async def _run(self, job: Job, request: RoutedRequest) -> Outcome:
        run = Attempt(job, request, str(uuid.uuid4()), self._clock.now())
        run.judge = make_judge(request.cascade, self._serving.cascades)
        run.task = asyncio.current_task()
        self._runs[request.request_id] = run
        self._in_flight.inc()
        try:
            return await self._attempt(run)
        finally:
            self._in_flight.dec()
            self._settle(run)

    async def _attempt(self, run: Attempt) -> Outcome:
        error: ApiError
        try:
            # Said while the model already works: nobody waits for it.
            asyncio.get_running_loop().call_soon(self._announce, run)
            generated = await self._generate(run)
        except asyncio.CancelledError:
            if not run.is_cancelled:
                raise
            is_late = run.request.deadline <= self._clock.now()
            error = _LATE if is_late else ApiError("cancelled", "the request was cancelled")
        except TimeoutError:
            error = _LATE
        except Unsure as unsure:
            parts = 0 if run.held is None else run.held.parts
            unsure_end = StepEnd("unsure", unsure.confidence, reply=unsure.reply, parts=parts)
            return await self._hand_on(run, unsure_end)
        except (ApiError, CallFailed) as ended:
            end = None if run.has_streamed else judge_failure(ended, run.judge, run.request.cascade)
            if end is not None:
                return await self._hand_on(run, end)
            if isinstance(ended, CallFailed):
                return await self._after_failure(run, ended)
            error = ended
        except Exception as bug:  # loop boundary: one request's bug is its own failed reply
            self._settle(run)
            log.exception("generation failed", extra={"request_id": run.request.request_id})
            await self._publisher.dead_letter(run.job.record, f"internal:{type(bug).__name__}")
            error = ApiError("internal", "an error inside the gateway")
        else:
            self._settle(run)
            return await self._complete(run, generated)
        self._settle(run)
        return await self._fail(run, error)

    def _settle(self, run: Attempt) -> None:
        """The outcome is decided: a cancel that comes now is too late."""
        if self._runs.get(run.request.request_id) is run:
            del self._runs[run.request.request_id]

    def _announce(self, run: Attempt) -> None:
        if self._closed is not None:
            return
        data = ProgressData(
            state="running",
            service=self._serving.service.slug,
            model=self._serving.model.id,
            attempt=run.attempt,
            decision=run.request.decision,
        )
        event = builders.build_progress(
            run.request.origin, data, source=self._source, now=self._clock.now()
        )
        for out in builders.progress_outgoing(event, topics=self._publisher.topics, reply=None):
            self._publisher.send(out)
        log_start(run.request.request_id, service=data.service, attempt=run.attempt)

    async def _generate(self, run: Attempt) -> BackendAnswer:
        if self._closed is not None:
            raise ApiError("no_healthy_service", self._closed, src="model")
        left_s = (run.request.deadline - self._clock.now()).total_seconds()
        sender = ChunkSender(
            lambda sequence, chunks: self._publish_chunk(run, sequence, chunks),
            window_s=self._serving.chunk_s,
        )
        run.sender = sender
        try:
            async with asyncio.timeout(max(0.0, left_s)):
                generated = await self._call(run, sender)
            await sender.finish()
        except AppendFailed:
            raise ApiError("internal", "a part of the stream could not be delivered") from None
        finally:
            sender.drop()
        return generated

    async def _call(self, run: Attempt, sender: ChunkSender) -> BackendAnswer:
        serving, info = self._serving, self._serving.server_info()
        check_abilities(run.request, serving.service, info)
        call = build_backend_request(run.request, serving.model, serving.service, serving.row, info)

        async def on_chunk(chunk: dict[str, Any], is_first: bool) -> None:  # noqa: FBT001
            if is_first and run.first_at is None:
                run.first_at = self._clock.now()
            await sender.add(chunk, is_first)

        if run.judge is None:
            return await self._call_admitted(run, call, on_chunk)
        run.held = held = HeldStream(
            run.judge,
            on_chunk,
            choices=call.shape.choices,
            shows_logprobs=asks_logprobs(call),
            most_bytes=self._serving.hold_bytes,
        )
        generated = await self._call_admitted(run, add_logprobs(call), held.add)
        run.confidence = await held.settle(generated.reply, is_stream=call.is_stream)
        return generated

    async def _call_admitted(
        self, run: Attempt, call: BackendRequest, on_chunk: OnChunk
    ) -> BackendAnswer:
        def begins() -> None:
            run.called_s = time.monotonic()

        return await self._calling.call_until_answered(run.request, call, on_chunk, begins)

    def _publish_chunk(
        self, run: Attempt, sequence: int, chunks: Sequence[dict[str, Any]]
    ) -> "Future[PartitionId]":
        event = builders.build_chunk(
            run.request.origin,
            chunks,
            generation=run.generation,
            sequence=sequence,
            attempt=run.attempt,
            service=self._serving.service.slug,
            now=self._clock.now(),
        )
        topics = self._publisher.topics
        return self._publisher.send(
            builders.chunk_outgoing(event, topics=topics, reply=run.request.reply)
        )

    async def _hand_on(self, run: Attempt, end: StepEnd) -> Outcome:
        """Gives the request to the next step; where that cannot be written, this step's answer has to do."""
        self._settle(run)
        self._count(end.reason or "escalated")
        seconds = run.seconds or 0.0
        if end.reply is not None:
            self._measured.add(seconds, None, count_tokens(end.reply)[1])
        all_s = seconds + run.job.worked_s
        used = build_cascade_used(
            end,
            service=self._serving.service,
            cost=compute_cost(self._serving.service, all_s),
            seconds=all_s,
            # A closed runner has counted an attempt and called no model.
            attempts=run.job.attempt - (self._closed is not None),
        )
        event = build_next_step(run.request.event, used, now=self._clock.now())
        if await self._publisher.hand_on(
            routed_outgoing(event, run.request, self._publisher.topics)
        ):
            self._announce_next(run, event)
            return JobFinished(run.job)
        if end.reply is None:
            return await self._fail(run, ApiError("internal", "the next step was out of reach"))
        run.confidence = end.confidence
        return await self._complete(run, BackendAnswer(reply=end.reply, seconds=seconds))

    def _announce_next(self, run: Attempt, event: Event) -> None:
        """Publishes the next service of the request, for waiting callers."""
        address, topics = run.request.reply, self._publisher.topics
        data = ProgressData(
            state="routed",
            service=event.extensions[SERVICE],
            model=event.subject or "",
            attempt=run.attempt,
            decision=run.request.decision,
        )
        told_of = builders.build_progress(
            run.request.origin, data, source=self._source, now=self._clock.now()
        )
        own = address if is_waited_for(address, topics) else None
        for out in builders.progress_outgoing(told_of, topics=topics, reply=own):
            self._publisher.send(out)

    async def _after_failure(self, run: Attempt, failed: CallFailed) -> Outcome:
        self._settle(run)
        self._count(failed.reason)
        again = self._may_retry(run, failed)
        return again if again is not None else await self._fail_exhausted(run, failed)

    def _may_retry(self, run: Attempt, failed: CallFailed) -> JobRetry | None:
        """A further attempt, unless a reader has seen this one, it was the last, or another service does better."""
        attempt, cascade = run.job.counted, run.request.cascade
        is_hopeless = isinstance(failed, BadReply) and attempt >= _MAX_BAD_REPLIES
        is_last = attempt >= min(
            self._serving.max_attempts, count_calls_left(self._serving.max_calls, cascade)
        )
        is_resting = not self._caller.health.is_closed and has_stand_by(cascade)
        if run.has_streamed or is_hopeless or is_last or is_resting:
            return None
        run.job.worked_s += run.seconds or 0.0
        return JobRetry(run.job, time.monotonic() + jittered(_BACKOFF.delay_s(attempt)))

    async def _fail_exhausted(self, run: Attempt, failed: CallFailed) -> Outcome:
        if not run.has_streamed and has_stand_by(run.request.cascade):
            return await self._hand_on(run, StepEnd("failed", reason=failed.reason))
        if run.job.counted >= self._serving.max_attempts:
            await self._publisher.dead_letter(run.job.record, f"{failed.code}:{failed.reason}")
        return await self._fail(run, failed.final())

    async def _complete(self, run: Attempt, generated: BackendAnswer) -> Outcome:
        self._measured.add(generated.seconds, generated.first_s, generated.completion_tokens)
        self._metrics.model_seconds.labels(self._serving.service.slug).observe(generated.seconds)
        self._count("completed")
        event = builders.build_completed(
            run.request.origin,
            generated.reply,
            self._pickspin(run, "completed", generated.seconds, generated.reply),
            source=self._source,
            generation=run.generation,
            now=self._clock.now(),
        )
        try:
            await self._publisher.terminal(event, run.request.reply, until=run.request.deadline)
        except Unkept:
            await self._publisher.dead_letter(run.job.record, "internal:answer_not_kept")
            error = ApiError("internal", "the answer could not be stored before the deadline")
            return await self._fail(run, error)
        return JobFinished(run.job)

    async def _fail(self, run: Attempt, error: ApiError) -> Outcome:
        self._count(error.code)
        event = self._publisher.failed(
            run.request.origin,
            error,
            source=self._source,
            pickspin=self._pickspin(run, "failed", run.seconds, reason=error.code),
            generation=run.generation,
        )
        await self._publisher.terminal(event, run.request.reply)
        return JobFinished(run.job)

    def _pickspin(
        self,
        run: Attempt,
        state: Literal["completed", "failed"],
        seconds: float | None,
        answer: dict[str, Any] | None = None,
        reason: str | None = None,
    ) -> PickspinData:
        usage = Account(
            request=run.request,
            service=self._serving.service,
            state=state,
            seconds=seconds,
            earlier_s=run.job.worked_s,
            started_at=run.started_at,
            first_at=run.first_at,
            load_ms=self._measured.load_ms(run.request.routed_at),
            attempts=run.job.attempt,
            attempt=run.attempt,
            reply=answer,
            confidence=run.confidence,
            reason=reason,
        ).pickspin()
        log_end(usage, answer, reason)
        return usage

    def _count(self, outcome: str) -> None:
        self._metrics.attempts.labels(self._serving.service.slug, outcome).inc()
        self._measured.note(outcome)

    @property
    def _source(self) -> str:
        return f"/models/{self._serving.service.slug}"
