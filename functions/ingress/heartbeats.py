"""When a waiting stream sends a comment line: at once on news, else at growing intervals.

Some clients give up after some hundred lines without data (the Go client counts 300), and proxies
after some ten seconds without a byte. So a comment is one line, and lines become rare.
"""

from typing import Final

_GROWTH: Final = 1.2
MOST_NEWS: Final = 100
"""Changes that are said at once; later ones wait for the next line that is due."""
_END: Final = b"\n"
"""A blank line, which parts comments from the data after them: some readers split a stream there."""


class Heartbeats:
    """The rhythm of one stream. Instants are those of one monotonic clock.

    Args:
        first_s: the first interval; a stream that has spoken begins with it again.
        most_s: the longest; below what proxies take for a dead connection.
    """

    def __init__(self, *, first_s: float, most_s: float, now_s: float) -> None:
        self._first_s = first_s
        self._most_s = max(first_s, most_s)
        self._interval_s = first_s
        self._due_s = now_s
        self._news = 0
        self._has_open_comment = False

    def is_due(self, now_s: float, *, has_news: bool = False) -> bool:
        """Whether a comment is to be written now."""
        return now_s >= self._due_s or (has_news and self._news < MOST_NEWS)

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next check for a change of the model's state, which wakes no waiter."""
        return min(self._due_s - now_s, self._first_s)

    def comment(self, line: bytes, now_s: float) -> bytes:
        """The comment as it is sent."""
        self._news += now_s < self._due_s
        self._due_s = now_s + self._interval_s
        self._interval_s = min(self._most_s, self._interval_s * _GROWTH)
        self._has_open_comment = True
        return line

    def data(self, frame: bytes, now_s: float) -> bytes:
        """The data as it is sent."""
        parted = _END + frame if self._has_open_comment else frame
        self._has_open_comment = False
        self._interval_s = self._first_s
        self._due_s = now_s + self._first_s
        return parted
