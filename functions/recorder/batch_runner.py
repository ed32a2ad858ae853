"""Runs batches: lines of a file become requests, their answers become files.

All state is in the store, so that a restarted runner resumes. Ids are derived from batch and line.
A line whose row exists is not submitted again; the reaper publishes it if its record was never
seen. An error stays with its line or batch: a bad line is refused, and a batch that cannot run
ends after `TRIES` with the answers it has.
Tenants have shares of running batches and of lines on Kafka. A batch that only waits for its model
takes none.
"""

import logging
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from events.builders import build_cancel, by_reference, cancel_outgoing
from events.codecs.kafka_codec import outgoing_record, to_record
from events.names import State, Topics
from events.payloads import CancelData
from functions.ports.blobs import BlobStore
from functions.ports.clock import Clock
from functions.ports.kafka import RecordAppender
from functions.ports.store import CONCURRENCY, BatchRow, Store
from functions.recorder.batch_files import BatchFiles
from functions.recorder.batch_format import (
    SOURCE,
    Line,
    LineError,
    errors_data,
    line_event,
    line_row,
    read_lines,
)
from functions.recorder.batch_turns import choose_turns
from functions.recorder.expiry_rules import build_origin
from functions.runtime.errors import ApiError, AppendFailed, BlobMissing, StoreFailed
from functions.runtime.telemetry import Metrics

IN_FLIGHT: Final = 100
"""Unfinished lines of one batch on the log."""
LEAST_IN_FLIGHT: Final = 10
"""... and so many may be even where other batches of its tenant use up what that tenant may have there."""
MAX_STEPS: Final = 64
"""Batches looked at in one tick."""
WAITS_S: Final = 5.0
"""A batch whose lines have neither run nor ended for this long waits for its model."""
TRIES: Final = 5
"""A batch whose step fails this often in a row, for a reason of its own, is ended."""
_UNSENDABLE: Final = ApiError("internal", "this line could not be sent, for a reason of ours")
_BROKEN: Final = LineError(code="internal", message="the batch could not be run to its end")

log = logging.getLogger(__name__)
_NO_FILE: Final[tuple[tuple[Line, ...], tuple[LineError, ...]]] = (
    (),
    (LineError(code="file_not_found", message="the input file is gone", param="input_file_id"),),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """`wait_s`: deadline of a line after it was submitted. `append_s`: longest wait for the log. Of one tenant,
    `tenant_batches` are worked on at once, and `tenant_lines` are on the log.
    """

    wait_s: float
    append_s: float
    inline_bytes: int
    max_file_bytes: int
    tenant_batches: int
    tenant_lines: int
    in_flight: int = IN_FLIGHT


@dataclass(slots=True)
class _BatchView:
    """What was seen of a batch that is open: how many lines were in each state, and since when (monotonic)."""

    counts: Mapping[State, int]
    since_s: float
    last_round: int = -1


class BatchRunner:
    """Call `tick` a few times a second, from one thread."""

    def __init__(
        self,
        *,
        store: Store,
        blobs: BlobStore,
        appender: RecordAppender,
        clock: Clock,
        topics: Topics,
        limits: BatchLimits,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._appender = appender
        self._clock = clock
        self._topics = topics
        self._limits = limits
        self._metrics = metrics
        self._files = BatchFiles(store=store, blobs=blobs, clock=clock)
        self._failures: Counter[str] = Counter()
        self._lines: dict[str, tuple[Line, ...]] = {}
        self._sights: dict[str, _BatchView] = {}
        self._cancelled: set[str] = set()
        self._round = 0

    def tick(self) -> int:
        """Takes open batches one step further, each tenant's share of them; returns how many are open.

        Raises:
            StoreFailed: the store is out of reach.
        """
        batches = self._store.open_batches()
        self._forget_all_but({batch.id for batch in batches})
        self._round += 1
        waiting = {batch.id for batch in batches if self._is_waiting(batch.id)}
        chosen = choose_turns(
            batches,
            waiting=waiting,
            per_tenant=self._limits.tenant_batches,
            most=MAX_STEPS,
            last={key: sight.last_round for key, sight in self._sights.items()},
        )
        # Lines of those that wait are read again when their model is there.
        kept = {batch.id for batch in chosen} - waiting
        self._lines = {key: lines for key, lines in self._lines.items() if key in kept}
        for batch in chosen:
            self._attend(batch)
            if batch.id in self._sights:
                self._sights[batch.id].last_round = self._round
        return len(batches)

    def _forget_all_but(self, kept: Collection[str]) -> None:
        self._sights = {key: sight for key, sight in self._sights.items() if key in kept}
        self._cancelled.intersection_update(kept)

    def _is_waiting(self, batch_id: str) -> bool:
        """Its lines are on the log, and for a while none of them has run or ended."""
        sight = self._sights.get(batch_id)
        return (
            sight is not None
            and _unfinished(sight.counts) > 0
            and not sight.counts.get(State.RUNNING)
            and self._clock.monotonic_s() - sight.since_s >= WAITS_S
        )

    def _attend(self, batch: BatchRow) -> None:
        """One step of one batch, or its end where it has failed too often."""
        step = self._step if self._failures[batch.id] < TRIES else self._give_up
        try:
            step(batch)
        except (OSError, BlobMissing) as error:
            # Blobs out of reach, or no room for them: this batch waits for them.
            log.warning("batch waits", extra={"batch_id": batch.id, "reason": str(error)})
        except Exception as error:
            if isinstance(error, StoreFailed) and error.is_transient:
                raise
            # The boundary of one batch: whatever is wrong with it, the others go on.
            self._failures[batch.id] += 1
            self._metrics.failed_rounds.labels(part="batch").inc()
            log.exception("step of a batch failed", extra={"batch_id": batch.id})
        else:
            self._failures.pop(batch.id, None)

    def _give_up(self, batch: BatchRow) -> None:
        """Ends a batch that cannot be run, with the answers that it has as far as they can be written."""
        ended = replace(
            batch, status="failed", errors=errors_data([_BROKEN]), finished_at=self._clock.now()
        )
        try:
            lines = self._read(batch)
            if lines is not None:
                known = {row.id for row in self._store.batch_requests(batch.id)}
                ended = self._files.write(ended, lines, known)
        except Exception:
            log.exception("answers of a batch not written", extra={"batch_id": batch.id})
        self._store.update_batch(ended)
        log.error("batch given up", extra={"batch_id": batch.id})

    def _step(self, batch: BatchRow) -> None:
        if batch.status == "validating":
            lines = self._read(batch)
            if lines is None:
                return
            batch = replace(batch, status="in_progress", total=len(lines))
            self._store.update_batch(batch)
        self._advance(batch)

    def _advance(self, batch: BatchRow) -> None:
        now = self._clock.now()
        counts = self._store.batch_counts(batch.id)
        is_new = self._see(batch.id, counts)
        unfinished = _unfinished(counts)
        may_submit = batch.status == "in_progress" and now < batch.deadline
        room = self._room(batch, unfinished) if may_submit else 0
        if batch.status == "cancelling" and unfinished:
            self._cancel_rest(batch)
        if unfinished and not room and not is_new:
            return
        lines = self._read(batch)
        if lines is None:
            return
        submitted = self._submit(batch, lines, room, now) if may_submit else batch.submitted
        # A line that could not be sent is a refused one by now.
        lines = self._lines[batch.id]
        noted = self._note(batch, lines, counts, submitted)
        is_over = not may_submit or submitted == len(lines)
        # What was submitted in this very step is not among the counts.
        if is_over and unfinished == 0 and submitted == batch.submitted:
            self._finish(noted, lines)

    def _see(self, batch_id: str, counts: Mapping[State, int]) -> bool:
        """Whether something has happened since the last step."""
        sight = self._sights.get(batch_id)
        if sight is not None and sight.counts == counts:
            return False
        last = -1 if sight is None else sight.last_round
        self._sights[batch_id] = _BatchView(counts, self._clock.monotonic_s(), last)
        return True

    def _room(self, batch: BatchRow, unfinished: int) -> int:
        """How many further lines may go on the log now."""
        left = batch.total - batch.submitted
        mine = min(left, concurrency_of(batch, self._limits.in_flight) - unfinished)
        if mine <= 0:
            return 0
        others = self._limits.tenant_lines - self._store.unfinished_lines(batch.tenant)
        return max(0, min(mine, max(others, LEAST_IN_FLIGHT - unfinished)))

    def _read(self, batch: BatchRow) -> tuple[Line, ...] | None:
        """The lines; None where the batch was refused.

        Raises:
            BlobMissing: they cannot be read now.
        """
        known = self._lines.get(batch.id)
        if known is not None:
            return known
        data = self._input(batch)
        if data is None and batch.status != "validating" and self._clock.now() < batch.deadline:
            # It has answers, which must not be lost to a file that cannot be read just now.
            raise BlobMissing("the input file of a batch that runs cannot be read")
        lines, errors = _NO_FILE if data is None else read_lines(data, batch.endpoint)
        if errors:
            now = self._clock.now()
            self._store.update_batch(
                replace(batch, status="failed", errors=errors_data(errors), finished_at=now)
            )
            log.info("batch refused", extra={"batch_id": batch.id, "errors": len(errors)})
            return None
        self._lines[batch.id] = lines
        return lines

    def _input(self, batch: BatchRow) -> bytes | None:
        file = self._store.file(batch.input_file_id)
        if file is None or file.tenant != batch.tenant:
            return None
        try:
            return self._blobs.get(file.ref, limit_bytes=self._limits.max_file_bytes)
        except BlobMissing:
            return None

    def _note(
        self,
        batch: BatchRow,
        lines: tuple[Line, ...],
        counts: Mapping[State, int],
        submitted: int,
    ) -> BatchRow:
        """Stores progress where there is any; returns the row with it."""
        refused = sum(line.refusal is not None for line in lines[:submitted])
        completed = counts.get(State.COMPLETED, 0)
        ended = sum(n for state, n in counts.items() if state.is_terminal)
        noted = replace(
            batch, completed=completed, failed=ended - completed + refused, submitted=submitted
        )
        if noted != batch:
            self._store.update_batch(noted)
        return noted

    def _submit(self, batch: BatchRow, lines: tuple[Line, ...], room: int, now: datetime) -> int:
        """Puts further lines on the log; returns how many lines are done with so far."""
        position = batch.submitted
        while position < len(lines) and room > 0:
            line = lines[position]
            if line.refusal is None and not self._send(batch, line, position, now):
                return position
            position += 1
            room -= line.refusal is None
        return position

    def _send(self, batch: BatchRow, line: Line, position: int, now: datetime) -> bool:
        """False where the log does not take records now. A line that can never be sent is refused, alone."""
        try:
            return self._append(batch, line, now)
        except OSError:
            raise
        except Exception as error:
            if isinstance(error, StoreFailed) and error.is_transient:
                raise
            log.exception("batch line not sent", extra={"batch_id": batch.id, "line": line.number})
            lines = list(self._lines[batch.id])
            lines[position] = replace(line, refusal=_UNSENDABLE)
            self._lines[batch.id] = tuple(lines)
            return True

    def _append(self, batch: BatchRow, line: Line, now: datetime) -> bool:
        """False where the log does not take records now."""
        deadline = min(batch.deadline, now + timedelta(seconds=self._limits.wait_s))
        event = line_event(batch, line, deadline=deadline, now=now)
        if len(line.body) > self._limits.inline_bytes:
            event = by_reference(event, self._blobs.put(line.body))
        record = to_record(event, topic=self._topics.requests, key=event.id)
        # The row first: a runner that is killed in between leaves a row that the reaper publishes.
        made = self._store.accept(line_row(batch, line, deadline=deadline, now=now), record)
        if made.kind != "new":
            return True
        try:
            self._appender.append(record).result(self._limits.append_s)
        except (AppendFailed, TimeoutError) as error:
            log.warning(
                "batch line not appended", extra={"batch_id": batch.id, "reason": str(error)}
            )
            return False
        log.info("accepted", extra={"request_id": event.id, "batch_id": batch.id})
        return True

    def _cancel_rest(self, batch: BatchRow) -> None:
        if batch.id in self._cancelled:
            return
        now = self._clock.now()
        for row in self._store.batch_requests(batch.id):
            if not row.state.is_terminal:
                event = build_cancel(
                    build_origin(row), CancelData(reason="client"), source=SOURCE, now=now
                )
                self._appender.append(outgoing_record(cancel_outgoing(event, topics=self._topics)))
        self._cancelled.add(batch.id)

    def _finish(self, batch: BatchRow, lines: tuple[Line, ...]) -> None:
        now = self._clock.now()
        if batch.status == "cancelling" and batch.cancelled_at is None:
            batch = replace(batch, cancelled_at=now)
        if batch.status != "finalizing":
            batch = replace(batch, status="finalizing")
            self._store.update_batch(batch)
        rows = {row.id: row.is_stored for row in self._store.batch_requests(batch.id)}
        status = judge_end(batch, len(lines))
        ended = replace(batch, status=status, failed=len(lines) - batch.completed, finished_at=now)
        self._store.update_batch(self._files.write(ended, lines, rows))
        for request_id, is_stored in rows.items():
            if not is_stored:
                self._store.forget(request_id)
        self._lines.pop(batch.id, None)
        log.info("batch ended", extra={"batch_id": batch.id, "status": status})


def _unfinished(counts: Mapping[State, int]) -> int:
    return sum(n for state, n in counts.items() if not state.is_terminal)


def concurrency_of(batch: BatchRow, most: int) -> int:
    """How many lines of a batch may be unfinished on the log: `most`, or fewer by its metadata."""
    text = batch.metadata.get(CONCURRENCY, "")
    return max(1, min(most, int(text))) if text.isascii() and text.isdigit() else most


def judge_end(batch: BatchRow, lines: int) -> str:
    """How a batch ends of which nothing is unfinished any more."""
    if batch.cancelled_at is not None:
        return "cancelled"
    return "completed" if batch.submitted >= lines else "expired"
