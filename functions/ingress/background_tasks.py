"""Tasks of the ingress beside its calls: consumers, the loop-back probe, and the shutdown."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from events import builders
from events.codecs import kafka_codec
from events.errors import EventRejected
from events.event import Record
from events.request_identity import read_request_id
from functions.ingress.broker_room import TerminalPosition
from functions.ingress.dependencies import Dependencies
from functions.ingress.open_calls import shutting_down
from functions.ingress.reply_consumer import POLL_S, RETRY_S, ReplyConsumer
from functions.ingress.router_watch import RouterWatch
from functions.ingress.submit import await_append
from functions.ports.kafka import LagReader, RecordLog
from functions.runtime.errors import AppendFailed
from functions.runtime.group_progress import ProgressWatch
from functions.runtime.registry_consumer import RegistryConsumer
from functions.runtime.restarting_thread import RestartingThread

log = logging.getLogger(__name__)

T = TypeVar("T")

GATHER_S: Final = 0.2
"""Between two polls of the ends: room that is free this late is free soon enough."""
LOOK_S: Final = 0.5
"""Between two looks at how far the recorder has read."""
LAST_RESORT_S: Final = 1.0
"""What waits for no model (an upload, another's answer) is ended this long after those that do."""
PROBE_S: Final = 2.0
"""A quiet ingress proves this often that it can write."""
PROBE_ANSWER_S: Final = 2.0
"""A probe that is not acknowledged by then has failed: well before a request's own append would give up."""


class BackgroundTasks:
    """The moving parts of one ingress. `start` and `close` are called by the server's lifespan."""

    def __init__(
        self,
        deps: Dependencies,
        cluster: RecordLog,
        reply_tail: ReplyConsumer,
        registry: RegistryConsumer,
        progress: ProgressWatch,
        router: RouterWatch,
    ) -> None:
        self.deps = deps
        self._router = router
        self._progress = progress
        self._reply_tail = reply_tail
        self._registry = registry
        self._ends = EndsTail(deps, cluster) if deps.settings.broker.kind == "embedded" else None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts the tails and the probe. Called on `loop`."""
        self._loop = loop
        self._registry.start()
        self._progress.start()
        self._router.start()
        self._reply_tail.start(loop)
        if self._ends is not None:
            self._ends.start(loop)
        self._tasks.append(loop.create_task(self._probe()))

    def close(self, timeout_s: float) -> None:
        """Stops everything; blocking. Open waits have ended before."""
        for task in self._tasks:
            task.get_loop().call_soon_threadsafe(task.cancel)
        self._reply_tail.close()
        if self._ends is not None:
            self._ends.close()
        self._registry.close()
        self._progress.close()
        self._router.close()
        self.deps.appender.close(timeout_s)
        self.deps.executor.shutdown(wait=True, cancel_futures=True)
        self.deps.store.close()
        self.deps.reply_partitions.close()

    async def _probe(self) -> None:
        while True:
            if self.deps.health.is_quiet(PROBE_S):
                try:
                    await probe(self.deps)
                except Exception:
                    # The loop boundary: whoever proves that writes work must not end unseen.
                    self.deps.health.note_failure()
                    log.exception("the probe failed")
            await asyncio.sleep(PROBE_S / 2)

    def drain(self) -> None:
        """Shutdown has begun (called from the signal handler): open calls get `drain_s`, then a typed answer."""
        self.deps.health.drain()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._end_later, self._loop)

    def _end_later(self, loop: asyncio.AbstractEventLoop) -> None:
        drain_s = self.deps.settings.ingress.drain_s
        loop.call_later(drain_s, self.deps.waiters.fail_all, shutting_down())
        loop.call_later(drain_s + LAST_RESORT_S, self.deps.calls.close)


async def probe(deps: Dependencies) -> None:
    """Appends an event to our own reply partition: shows that the cluster takes writes. Readers there drop it."""
    event = builders.build_probe(deps.instance, deps.epoch, now=deps.clock.now())
    record = kafka_codec.to_record(
        event, topic=deps.topics.replies, key=None, partition=deps.settings.ingress.partition
    )
    try:
        async with asyncio.timeout(PROBE_ANSWER_S):
            await await_append(deps.appender.append(record))
    except (AppendFailed, TimeoutError) as error:
        deps.health.note_failure()
        log.warning(
            "the cluster takes no writes", extra={"reason": str(error) or "no answer in time"}
        )
    else:
        deps.health.note_append()


class EndsTail:
    """The thread over `infer.responses` that frees the in-memory broker's room once its readers have read it; embedded
    broker only.
    """

    def __init__(self, deps: Dependencies, cluster: RecordLog) -> None:
        self._deps = deps
        self._cluster = cluster
        self._loop: asyncio.AbstractEventLoop | None = None
        self._following = RestartingThread(self._follow, name="ends", retry_s=RETRY_S)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._following.start()

    def close(self) -> None:
        self._following.close()

    def _follow(self, stop: threading.Event) -> None:
        client = f"ingress-ends-{self._deps.instance}"
        room, looked_s = self._deps.broker_room, 0.0
        tail = self._cluster.tail(
            topics=(self._deps.topics.responses,), client=client, from_start=False
        )
        lags = self._cluster.lag_reader(client=client)
        with contextlib.closing(tail), contextlib.closing(lags):
            while not stop.is_set():
                ends = [
                    end
                    for record in tail.poll(POLL_S)
                    if (end := locate_terminal(record)) is not None
                ]
                if ends:
                    self._tell(room.note_ends, ends)
                if room.unread_bytes and time.monotonic() - looked_s >= LOOK_S:
                    looked_s = time.monotonic()
                    self._tell(room.note_read, self._positions(lags))
                stop.wait(GATHER_S)

    def _tell(self, note: Callable[[T], None], what: T) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(note, what)

    def _positions(self, lags: LagReader) -> Mapping[int, int]:
        """How far recorder and callbacks have both read, by partition; nothing where that cannot be known now."""
        topics = self._deps.topics
        readers = (topics.recorder_group, topics.callbacks_group)
        try:
            offsets_by_group = lags.lags(dict.fromkeys(readers, (topics.responses,)))
        except Exception as error:  # noqa: BLE001 - clients raise what they like
            log.warning("offsets not read", extra={"reason": type(error).__name__})
            return {}
        read: dict[int, int] = {}
        for group in readers:
            for place, offsets in offsets_by_group.get(group, {}).items():
                position = offsets.committed or 0
                read[place.partition] = min(position, read.get(place.partition, position))
        return read


def locate_terminal(record: Record) -> TerminalPosition | None:
    """What of the in-memory broker's room a record of `infer.responses` stands for; None: it is no event."""
    with contextlib.suppress(EventRejected):
        event = kafka_codec.from_record(record)
        return TerminalPosition(
            read_request_id(event), record.partition or 0, record.offset, record.size_bytes
        )
    return None
