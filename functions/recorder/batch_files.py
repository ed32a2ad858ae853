"""The result and error files of a batch: the outcome of each line, in the order of the input."""

import io
from collections.abc import Collection
from dataclasses import replace
from typing import Final

from events import ids
from functions.ports.blobs import BlobStore
from functions.ports.clock import Clock
from functions.ports.store import BatchRow, FileRow, Store
from functions.recorder.batch_format import Line, line_request_id, output_line
from functions.runtime.errors import ApiError

MAX_OUTPUT_BYTES: Final = 512 * 1024 * 1024
OUTPUT_PURPOSE: Final = "batch_output"
_TOO_LARGE: Final = ApiError(
    "reply_too_large", "the output file is full: fetch this answer by its id"
)


class BatchFiles:
    """Writes output and error files; their ids are derived, so that writing twice changes nothing."""

    def __init__(self, *, store: Store, blobs: BlobStore, clock: Clock) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock

    def write(self, batch: BatchRow, lines: tuple[Line, ...], known: Collection[str]) -> BatchRow:
        """The batch with its files, which are in the store on return. `known`: request ids that are on record.

        Raises:
            OSError: the blobs are out of reach, or have no room.
        """
        output, errors = self._outputs(batch, lines, known)
        return replace(
            batch,
            output_file_id=self._write(batch, "output", output),
            error_file_id=self._write(batch, "errors", errors),
        )

    def _outputs(
        self, batch: BatchRow, lines: tuple[Line, ...], known: Collection[str]
    ) -> tuple[bytes, bytes]:
        written: tuple[list[bytes], list[bytes]] = ([], [])
        room = MAX_OUTPUT_BYTES
        for position, line in enumerate(lines):
            request_id = line_request_id(batch.id, line.number)
            row = self._store.request(request_id) if request_id in known else None
            is_submitted = position < batch.submitted
            is_success, text = output_line(batch, line, row, is_submitted=is_submitted)
            if len(text) > room:
                is_success, text = output_line(batch, replace(line, refusal=_TOO_LARGE), None)
            room -= len(text)
            written[0 if is_success else 1].append(text)
        return b"".join(written[0]), b"".join(written[1])

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
            ref=self._blobs.put_file(io.BytesIO(data)),
        )
        self._store.add_file(row)
        return file_id
