"""Server-sent events from a model server, read incrementally and with bounds. No I/O."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from functions.worker.backend_errors import BadReply

_BOM: Final = b"\xef\xbb\xbf"


class SseEvent(NamedTuple):
    """One whole event. `is_error`: it is named so, or its data came in a field `error` (older llama.cpp)."""

    data: bytes
    is_error: bool = False


class SseParser:
    """Bytes in, whole events out (WHATWG, section 9.2: LF, CR LF and CR end lines; comments are skipped).

    `max_event_bytes` bounds one line and the data of one event.
    """

    def __init__(self, *, max_event_bytes: int) -> None:
        self._max_bytes = max_event_bytes
        self._line = bytearray()
        self._data: list[bytes] = []
        self._is_error = False
        self._size = 0
        self._is_start = True
        self._skip_lf = False

    def feed(self, received: bytes) -> Iterator[SseEvent]:
        """Each event that `received` completes, in order.

        Raises:
            BadReply: a line or an event is longer than allowed.
        """
        if self._skip_lf and received:
            received = received.removeprefix(b"\n")
            self._skip_lf = False
        self._line += received
        start = 0
        while (end := self._line_end(start)) >= 0:
            line = bytes(self._line[start:end])
            start = end + self._ending(end)
            event = self._take(line)
            if event is not None:
                yield event
        del self._line[:start]
        if len(self._line) > self._max_bytes:
            raise BadReply("line_too_long")

    def flush(self) -> Iterator[SseEvent]:
        """The event that the end of the stream completes: not every server writes its last empty line."""
        line, self._line = bytes(self._line), bytearray()
        if line:
            self._take(line)
        event = self._end()
        if event is not None:
            yield event

    def _line_end(self, start: int) -> int:
        lf = self._line.find(b"\n", start)
        cr = self._line.find(b"\r", start, None if lf < 0 else lf)
        return cr if cr >= 0 else lf

    def _ending(self, end: int) -> int:
        if self._line[end] == 0x0A:
            return 1
        if end + 1 < len(self._line):
            return 2 if self._line[end + 1] == 0x0A else 1
        self._skip_lf = True  # the LF of this CR may come with the next bytes
        return 1

    def _take(self, line: bytes) -> SseEvent | None:
        if self._is_start:
            line = line.removeprefix(_BOM)
            self._is_start = False
        if not line:
            return self._end()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            self._is_error = value == b"error"
        elif field in {b"data", b"error"}:
            self._is_error = self._is_error or field == b"error"
            self._size += len(value)
            if self._size > self._max_bytes:
                raise BadReply("event_too_long")
            self._data.append(value)
        return None

    def _end(self) -> SseEvent | None:
        event = SseEvent(b"\n".join(self._data), self._is_error) if self._data else None
        self._data, self._size, self._is_error = [], 0, False
        return event
