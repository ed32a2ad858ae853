"""What runs beside the doors: the tails, the loop-back probe, and the end of everything at shutdown."""

import asyncio
import contextlib
import logging
import threading
from typing import Final

from events import ids, kafka_codec, types
from events.errors import EventRejected
from events.instants import to_rfc3339
from events.record import Event
from functions.errors import AppendFailed
from functions.following import Following
from functions.ingress.accepting import acknowledged
from functions.ingress.deps import Deps
from functions.ingress.open_calls import shutting_down
from functions.ingress.reply_tail import POLL_S, RETRY_S, ReplyTail
from functions.ports import RecordLog
from functions.progress import ProgressWatch
from functions.registry_tail import RegistryTail

log = logging.getLogger(__name__)

GATHER_S: Final = 0.2
"""Between two polls of the ends: room that is free this late is free soon enough."""

LAST_RESORT_S: Final = 1.0
"""What waits for no model (an upload, another's answer) is ended this long after those that do."""
PROBE_S: Final = 2.0
"""A quiet ingress proves this often that it can write."""
PROBE_ANSWER_S: Final = 2.0
"""A probe that is not acknowledged by then has failed: well before a request's own append would give up."""


class Running:
    """The moving parts of one ingress. `start` and `close` are called by the server's lifespan."""

    def __init__(
        self,
        deps: Deps,
        cluster: RecordLog,
        reply_tail: ReplyTail,
        registry: RegistryTail,
        progress: ProgressWatch,
    ) -> None:
        self.deps = deps
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
                    self.deps.health.failed()
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


async def probe(deps: Deps) -> None:
    """Appends an event to our own reply partition: shows that the cluster takes writes. Readers there drop it."""
    now = deps.clock.now()
    event = Event(
        id=ids.derive(deps.epoch, "probe", to_rfc3339(now)),
        source=f"/ingress/{deps.instance}",
        type=types.STATUS,
        subject=deps.instance,
        time=to_rfc3339(now),
        data=b"{}",
        extensions={types.REPLY_EPOCH: deps.epoch},
    )
    record = kafka_codec.to_record(
        event, topic=deps.topics.replies, key=None, partition=deps.settings.ingress.partition
    )
    try:
        async with asyncio.timeout(PROBE_ANSWER_S):
            await acknowledged(deps.appender.append(record))
    except (AppendFailed, TimeoutError) as error:
        deps.health.failed()
        log.warning(
            "the cluster takes no writes", extra={"reason": str(error) or "no answer in time"}
        )
    else:
        deps.health.appended()


class EndsTail:
    """The thread over `infer.responses` that frees the in-memory broker's room; embedded broker only."""

    def __init__(self, deps: Deps, cluster: RecordLog) -> None:
        self._deps = deps
        self._cluster = cluster
        self._loop: asyncio.AbstractEventLoop | None = None
        self._following = Following(self._follow, name="ends", retry_s=RETRY_S)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._following.start()

    def close(self) -> None:
        self._following.close()

    def _follow(self, stop: threading.Event) -> None:
        tail = self._cluster.tail(
            topics=(self._deps.topics.responses,),
            client=f"ingress-ends-{self._deps.instance}",
            from_start=False,
        )
        with contextlib.closing(tail):
            while not stop.is_set():
                ended: list[str] = []
                for record in tail.poll(POLL_S):
                    with contextlib.suppress(EventRejected):
                        event = kafka_codec.from_record(record)
                        ended.append(event.get(types.CORRELATION_ID) or "")
                if ended and self._loop is not None:
                    self._loop.call_soon_threadsafe(self._release, ended)
                stop.wait(GATHER_S)

    def _release(self, request_ids: list[str]) -> None:
        for request_id in request_ids:
            self._deps.outstanding.release(request_id)
