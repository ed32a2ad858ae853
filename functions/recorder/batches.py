"""The batch runner: lines of a file become requests, their answers become files. All its state is in the store.

Killed anywhere, it goes on where the store says: request ids are derived from batch and line, a line whose row exists
is not submitted again (the reaper publishes it where its record was never seen), files have derived ids.

What goes wrong with a line or a batch stays with it: a line that cannot be sent is refused, a batch that cannot be run
is ended after `TRIES` with the answers that it has, and all others go on.
"""

import logging
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from events import ids
from events.kafka_codec import outgoing_record, to_record
from events.payloads import CancelData
from events.reply import by_reference, cancel, cancel_outgoing
from events.types import State, Topics
from functions.errors import ApiError, AppendFailed, BlobMissing, StoreFailed
from functions.ports import BlobStore, Clock, RecordAppender
from functions.recorder.batch_lines import (
    SOURCE,
    Line,
    LineError,
    errors_data,
    line_event,
    line_request_id,
    line_row,
    output_line,
    read_lines,
)
from functions.recorder.verdicts import origin_of
from functions.store import BatchRow, FileRow, Store
from functions.telemetry import Metrics

IN_FLIGHT: Final = 100
"""Unfinished lines of one batch on the log."""
MAX_ACTIVE: Final = 4
"""Batches worked on at once; the oldest go first."""
MAX_OUTPUT_BYTES: Final = 512 * 1024 * 1024
TRIES: Final = 5
"""A batch whose step fails this often in a row, for a reason of its own, is ended."""
OUTPUT_PURPOSE: Final = "batch_output"
_TOO_LARGE: Final = ApiError(
    "reply_too_large", "the output file is full: fetch this answer by its id"
)
_UNSENDABLE: Final = ApiError("internal", "this line could not be sent, for a reason of ours")
_BROKEN: Final = LineError(code="internal", message="the batch could not be run to its end")

log = logging.getLogger(__name__)
_NO_FILE: Final[tuple[tuple[Line, ...], tuple[LineError, ...]]] = (
    (),
    (LineError(code="file_not_found", message="the input file is gone", param="input_file_id"),),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """`wait_s`: deadline of a line after it was submitted. `append_s`: longest wait for the log."""

    wait_s: float
    append_s: float
    inline_bytes: int
    max_file_bytes: int
    in_flight: int = IN_FLIGHT


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
        self._failures: Counter[str] = Counter()
        self._lines: dict[str, tuple[Line, ...]] = {}
        self._cancelled: set[str] = set()

    def tick(self) -> int:
        """Takes every open batch one step further; returns how many are open.

        Raises:
            StoreFailed: the store is out of reach.
        """
        batches = self._store.open_batches()
        active = batches[:MAX_ACTIVE]
        kept = {batch.id for batch in active}
        self._lines = {key: lines for key, lines in self._lines.items() if key in kept}
        self._cancelled &= kept
        for batch in active:
            self._attend(batch)
        return len(batches)

    def _attend(self, batch: BatchRow) -> None:
        """One step of one batch, or its end where it has failed too often."""
        step = self._step if self._failures[batch.id] < TRIES else self._give_up
        try:
            step(batch)
        except OSError as error:
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
            lines = self._lines.get(batch.id) or self._read(batch)
            if lines is not None:
                ended = self._with_files(ended, lines, self._rows(batch))
        except Exception:
            log.exception("answers of a batch not written", extra={"batch_id": batch.id})
        self._store.update_batch(ended)
        log.error("batch given up", extra={"batch_id": batch.id})

    def _step(self, batch: BatchRow) -> None:
        lines = self._read(batch)
        if lines is None:
            return
        if batch.status == "validating":
            batch = replace(batch, status="in_progress", total=len(lines))
            self._store.update_batch(batch)
        self._advance(batch, lines)

    def _advance(self, batch: BatchRow, lines: tuple[Line, ...]) -> None:
        now = self._clock.now()
        counts = self._store.batch_counts(batch.id)
        unfinished = sum(n for state, n in counts.items() if not state.is_terminal)
        may_submit = batch.status == "in_progress" and now < batch.deadline
        submitted = batch.submitted
        if may_submit:
            submitted = self._submit(batch, lines, self._limits.in_flight - unfinished, now)
        elif batch.status == "cancelling" and unfinished:
            self._cancel_rest(batch)
        # A line that could not be sent is a refused one by now.
        lines = self._lines[batch.id]
        noted = self._note(batch, lines, counts, submitted)
        is_over = not may_submit or submitted == len(lines)
        # What was submitted in this very step is not among the counts.
        if is_over and unfinished == 0 and submitted == batch.submitted:
            self._finish(noted, lines)

    def _read(self, batch: BatchRow) -> tuple[Line, ...] | None:
        """The lines; None where the batch was refused."""
        known = self._lines.get(batch.id)
        if known is not None:
            return known
        data = self._input(batch)
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
        if not self._store.accept(line_row(batch, line, deadline=deadline, now=now), record):
            return True
        try:
            self._appender.append(record).result(self._limits.append_s)
        except (AppendFailed, TimeoutError) as error:
            log.warning(
                "batch line not appended", extra={"batch_id": batch.id, "reason": str(error)}
            )
            return False
        return True

    def _cancel_rest(self, batch: BatchRow) -> None:
        if batch.id in self._cancelled:
            return
        now = self._clock.now()
        for row in self._store.batch_requests(batch.id):
            if not row.state.is_terminal:
                event = cancel(origin_of(row), CancelData(reason="client"), source=SOURCE, now=now)
                self._appender.append(outgoing_record(cancel_outgoing(event, topics=self._topics)))
        self._cancelled.add(batch.id)

    def _finish(self, batch: BatchRow, lines: tuple[Line, ...]) -> None:
        now = self._clock.now()
        if batch.status == "cancelling" and batch.cancelled_at is None:
            batch = replace(batch, cancelled_at=now)
        if batch.status != "finalizing":
            batch = replace(batch, status="finalizing")
            self._store.update_batch(batch)
        rows = self._rows(batch)
        status = end_status(batch, len(lines))
        ended = replace(batch, status=status, failed=len(lines) - batch.completed, finished_at=now)
        self._store.update_batch(self._with_files(ended, lines, rows))
        for request_id, is_stored in rows.items():
            if not is_stored:
                self._store.forget(request_id)
        self._lines.pop(batch.id, None)
        log.info("batch ended", extra={"batch_id": batch.id, "status": status})

    def _rows(self, batch: BatchRow) -> dict[str, bool]:
        """Whether its answer is to be kept, of every line on record."""
        return {row.id: row.is_stored for row in self._store.batch_requests(batch.id)}

    def _with_files(
        self, batch: BatchRow, lines: tuple[Line, ...], known: Collection[str]
    ) -> BatchRow:
        """The batch with its output and error file, which are written here."""
        output, errors = self._outputs(batch, lines, known)
        return replace(
            batch,
            output_file_id=self._write(batch, "output", output),
            error_file_id=self._write(batch, "errors", errors),
        )

    def _outputs(
        self, batch: BatchRow, lines: tuple[Line, ...], known: Collection[str]
    ) -> tuple[bytes, bytes]:
        """Output and error file, in the order of the input."""
        found: tuple[list[bytes], list[bytes]] = ([], [])
        room = MAX_OUTPUT_BYTES
        for position, line in enumerate(lines):
            request_id = line_request_id(batch.id, line.number)
            row = self._store.request(request_id) if request_id in known else None
            is_submitted = position < batch.submitted
            is_success, text = output_line(batch, line, row, is_submitted=is_submitted)
            if len(text) > room:
                is_success, text = output_line(batch, replace(line, refusal=_TOO_LARGE), None)
            room -= len(text)
            found[0 if is_success else 1].append(text)
        return b"".join(found[0]), b"".join(found[1])

    def _write(self, batch: BatchRow, name: str, data: bytes) -> str | None:
        if not data:
            return None
        file_id = "file-" + ids.derive(batch.id, name).replace("-", "")
        row = FileRow(
            id=file_id,
            tenant=batch.tenant,
            filename=f"{batch.id}_{name}.jsonl",
            purpose=OUTPUT_PURPOSE,
            bytes=len(data),
            created_at=self._clock.now(),
            ref=self._blobs.put(data),
        )
        self._store.add_file(row)
        return file_id


def end_status(batch: BatchRow, lines: int) -> str:
    """How a batch ends of which nothing is unfinished any more."""
    if batch.cancelled_at is not None:
        return "cancelled"
    return "completed" if batch.submitted >= lines else "expired"
