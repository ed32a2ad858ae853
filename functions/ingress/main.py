"""Wires the ingress process: settings in, adapters opened, served, closed gracefully."""

import asyncio
import contextlib
import logging
import math
import os
import socket
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette

from events.names import Topics
from functions import factories
from functions.ingress.api.cloudevents import reply_topics
from functions.ingress.api_keys import ApiKeys
from functions.ingress.app import build_app
from functions.ingress.background_tasks import LAST_RESORT_S, BackgroundTasks
from functions.ingress.broker_room import BrokerRoom
from functions.ingress.browser_origins import is_loopback
from functions.ingress.cors import check_origins
from functions.ingress.dependencies import Dependencies
from functions.ingress.murmur2 import choose_partition
from functions.ingress.pending_requests import Waiters
from functions.ingress.readiness import Health, ReadinessCheck
from functions.ingress.reply_consumer import ReplyConsumer
from functions.ingress.router_watch import RouterWatch
from functions.ingress.uvicorn_protocol import bounded_protocol
from functions.ports.kafka import RecordLog
from functions.runtime.errors import StartupFailed
from functions.runtime.group_progress import ProgressWatch
from functions.runtime.registry_consumer import RegistryConsumer
from functions.runtime.reply_partitions import ReplyPartitions
from functions.runtime.settings import Settings
from functions.runtime.shutdown import StopFlag
from functions.runtime.system_clock import SystemClock
from functions.runtime.telemetry import Metrics
from router_model.catalogue.model import Catalogue

log = logging.getLogger(__name__)

STORE_THREADS: Final = 8
CLOSE_S: Final = 2.0
BACKLOG: Final = 512


def run(settings: Settings) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit status.

    Raises:
        StartupFailed: a setting forbids serving, or a part cannot be opened.
    """
    StopFlag.install()  # uvicorn raises the signal again at its end: it must find a handler that only notes it
    keys = ApiKeys.parse(settings.ingress.api_keys)
    check_exposure(settings, has_keys=bool(keys))
    check_origins(settings.ingress, has_keys=bool(keys))
    catalogue = factories.load_catalogue(settings)
    cluster = factories.open_log(settings)
    parts = build(settings, cluster, catalogue, keys)
    app = build_app(parts.deps, lifespan=_lifespan(parts))
    listener = _listen(settings)
    server = DrainingServer(_config(app, settings), on_exit=parts.drain)
    log.info("listening", extra={"host": settings.ingress.host, "port": listener.getsockname()[1]})
    server.run(sockets=[listener])
    return 0


class DrainingServer(uvicorn.Server):
    """A server that is not ready from the first signal on."""

    def __init__(self, config: uvicorn.Config, *, on_exit: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_exit = on_exit

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._on_exit()
        super().handle_exit(sig, frame)


def build(
    settings: Settings, cluster: RecordLog, catalogue: Catalogue, keys: ApiKeys
) -> BackgroundTasks:
    """Every part of one ingress over a cluster; nothing runs yet."""
    clock, metrics, topics = SystemClock(), Metrics(), Topics(settings.broker.prefix)
    instance = f"{socket.gethostname()}-{settings.ingress.partition}"
    epoch = uuid.uuid4().hex
    waiters = Waiters(lambda reason: metrics.replies_dropped.labels(reason=reason).inc())
    registry = RegistryConsumer(cluster, topics, client=f"ingress-registry-{instance}")
    replies = _follow_replies(settings, cluster, topics, waiters, instance, epoch)
    progress = _watch_progress(settings, cluster, topics, metrics, instance)
    router = RouterWatch(settings.ingress.router_url, clock)
    health = Health(
        clock,
        lambda: (
            ReadinessCheck("replies_followed", replies.is_caught_up()),
            ReadinessCheck("registry_followed", registry.is_caught_up()),
            ReadinessCheck("catalogue_loaded", bool(catalogue.models)),
            ReadinessCheck("router_ready", router.is_ready()),
            ReadinessCheck("requests_routed", not progress.is_stopped(topics.router_group)),
        ),
    )
    deps = Dependencies(
        settings=settings,
        topics=topics,
        clock=clock,
        catalogue=catalogue,
        registry=lambda: registry.registry,
        appender=cluster.appender(client=f"ingress-{instance}"),
        waiters=waiters,
        broker_room=_broker_room(settings),
        store=factories.open_store(settings, clock),
        blobs=factories.open_blobs(settings),
        executor=ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="store"),
        keys=keys,
        health=health,
        metrics=metrics,
        instance=instance,
        epoch=epoch,
        entropy=os.urandom,
        reply_partitions=ReplyPartitions(
            partial(cluster.offset_reader, client=f"ingress-addresses-{instance}"),
            tuple(sorted(reply_topics(settings, topics))),
            clock,
        ),
    )
    return BackgroundTasks(deps, cluster, replies, registry, progress, router)


def _follow_replies(
    settings: Settings,
    cluster: RecordLog,
    topics: Topics,
    waiters: Waiters,
    instance: str,
    epoch: str,
) -> ReplyConsumer:
    """The consumer of this replica's replies."""
    open_tail = partial(
        cluster.tail,
        topics=(topics.replies,),
        client=f"ingress-replies-{instance}",
        from_start=False,
        partition=settings.ingress.partition,
        is_awaited=True,
    )
    return ReplyConsumer(open_tail, waiters, epoch=epoch, dropped=waiters.dropped)


def _watch_progress(
    settings: Settings, cluster: RecordLog, topics: Topics, metrics: Metrics, instance: str
) -> ProgressWatch:
    """Whether what is accepted here gets anywhere."""
    return ProgressWatch(
        partial(cluster.lag_reader, client=f"ingress-progress-{instance}"),
        {topics.router_group: (topics.requests,)},
        stalled_s=settings.broker.stalled_s,
        clock=SystemClock(),
        metrics=metrics,
    )


def _broker_room(settings: Settings) -> BrokerRoom:
    is_embedded = settings.broker.kind == "embedded"
    limit = settings.ingress.embedded_partition_bytes if is_embedded else None
    return BrokerRoom(limit, partial(choose_partition, partitions=settings.broker.partitions))


def check_exposure(settings: Settings, *, has_keys: bool) -> None:
    """Without keys only this machine may reach us.

    Raises:
        StartupFailed: no keys, and the host is not a loopback address.
    """
    host = settings.ingress.host
    if not has_keys and not is_loopback(host):
        raise StartupFailed(
            f"ingress: {host} is reachable from elsewhere; set PICKSPIN_API_KEYS or bind 127.0.0.1"
        )


def _lifespan(
    parts: BackgroundTasks,
) -> Callable[[Starlette], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        parts.start(asyncio.get_running_loop())
        try:
            yield
        finally:
            await asyncio.get_running_loop().run_in_executor(None, parts.close, CLOSE_S)

    return lifespan


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.ingress.host, settings.ingress.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise StartupFailed(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listener


def _config(app: Starlette, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=bounded_protocol(settings.ingress),
        loop="uvloop",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=math.ceil(settings.ingress.drain_s + LAST_RESORT_S) + 1,
    )
