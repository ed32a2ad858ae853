"""The last truth about every service: written by the watching thread, read and waited for on the event loop."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from functions.autoscaling.desired_replicas import Wish


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is known and wished for one service."""

    slug: str
    lag: int
    in_flight: int
    seen: int
    """Replicas that report, ready or coming."""
    ready: int
    rate_per_s: float
    wakings: int
    """How often work has come to it while it had none: grows by one each time."""
    wish: Wish

    @property
    def is_busy(self) -> bool:
        return self.lag > 0 or self.in_flight > 0

    def is_active(self, *, holds_idle: bool) -> bool:
        """Whether the target may not be at zero. `holds_idle` False leaves the idle time tau to whoever asks."""
        return self.wish.replicas > 0 if holds_idle else self.wish.is_needed


class Board:
    """`publish` belongs to one thread; the rest to the event loop, except the readers, which any thread may call."""

    def __init__(self, monotonic_s: Callable[[], float], listener_s: float) -> None:
        self._monotonic_s = monotonic_s
        self._listener_s = listener_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._verdicts: Mapping[str, Verdict] = {}
        self._slugs: frozenset[str] | None = None
        self._bells: dict[str, set[asyncio.Event]] = {}
        self._streams = 0
        self._asked_s: float | None = None
        self.on_listener: Callable[[], None] = lambda: None
        """Called when the first one begins to listen."""

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Names the loop that streams wait on; before the first `publish` that should wake one."""
        self._loop = loop

    def declare(self, slugs: frozenset[str]) -> None:
        """Which services there are; the others are unknown, whatever was published of them."""
        gone = frozenset() if self._slugs is None else self._slugs - slugs
        self._slugs = slugs
        self._ring(gone)

    def publish(self, verdicts: Mapping[str, Verdict]) -> None:
        """Replaces all verdicts, and wakes the streams of the services that changed in what KEDA acts on."""
        before, self._verdicts = self._verdicts, verdicts
        self._ring(
            frozenset(
                slug
                for slug, verdict in verdicts.items()
                if _essence(before.get(slug)) != _essence(verdict)
            )
        )

    def is_known(self, slug: str) -> bool:
        """Whether there is such a service; true before the catalogue was declared."""
        return self._slugs is None or slug in self._slugs

    def verdict(self, slug: str) -> Verdict | None:
        """The last verdict; None before the first reading."""
        return self._verdicts.get(slug)

    def streams(self) -> int:
        """Open streams."""
        return self._streams

    def is_listened_to(self) -> bool:
        """Whether a stream is open, or somebody asked lately."""
        if self._streams:
            return True
        return self._asked_s is not None and self._monotonic_s() - self._asked_s < self._listener_s

    def note_asked(self) -> None:
        """Somebody asked without a stream."""
        was_listened_to, self._asked_s = self.is_listened_to(), self._monotonic_s()
        if not was_listened_to:
            self.on_listener()

    @contextmanager
    def listening(self, slug: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the service's verdict changed in what KEDA acts on."""
        bell = asyncio.Event()
        was_listened_to = self.is_listened_to()
        self._bells.setdefault(slug, set()).add(bell)
        self._streams += 1
        if not was_listened_to:
            self.on_listener()
        try:
            yield bell
        finally:
            self._streams -= 1
            self._bells[slug].discard(bell)
            if not self._bells[slug]:
                del self._bells[slug]

    def ring_all(self) -> None:
        """Wakes every stream: on the loop."""
        for bells in self._bells.values():
            for bell in bells:
                bell.set()

    def _ring(self, slugs: frozenset[str]) -> None:
        if slugs and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._set, slugs)

    def _set(self, slugs: frozenset[str]) -> None:
        for slug in slugs:
            for bell in self._bells.get(slug, ()):
                bell.set()


def _essence(verdict: Verdict | None) -> tuple[bool, bool, int, bool] | None:
    if verdict is None:
        return None
    wish = verdict.wish
    return wish.replicas > 0, wish.is_needed, verdict.wakings, verdict.seen > 0
