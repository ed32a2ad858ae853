"""Wires the router process: the Flask function under gunicorn, or a consumer."""

import logging
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from functions import factories
from functions.router.consumer_loop import ConsumerLoop, LoopLimits
from functions.router.consumer_watch import watched_feed
from functions.router.kafka_binding import IN_FLIGHT, LogBinding
from functions.router.router_factory import build_router, give_up_rule
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import ProbeSettings, Settings
from functions.runtime.shutdown import StopFlag, prefer_latency
from functions.runtime.system_clock import SystemClock
from router_model.catalogue.model import Catalogue
from router_model.routing.policy import LoadedPolicy

log = logging.getLogger(__name__)

CLOSE_S: Final = 5.0
Policies = Mapping[str, LoadedPolicy]


def run(settings: Settings) -> int:
    """Serves until SIGTERM or SIGINT. Returns the exit status.

    Raises:
        StartupFailed: the catalogue is rejected, its policy or a setting is wrong, or the cluster is not usable.
    """
    prefer_latency()
    catalogue = factories.load_catalogue(settings)
    policies = factories.load_policies(catalogue, settings)
    if policies:
        log.info("routing policies loaded", extra={"policies": sorted(policies)})
    if settings.router.binding == "http":
        return _serve(settings, catalogue, policies)
    if settings.router.binding == "log":
        return _consume(settings, catalogue, policies)
    raise StartupFailed(
        f"router.binding is {settings.router.binding!r}; it must be 'http' or 'log'"
    )


def _serve(settings: Settings, catalogue: Catalogue, policies: Policies) -> int:
    from functions.router.gunicorn_server import serve  # noqa: PLC0415 - gunicorn and flask only here

    def load() -> tuple[Any, Any]:
        from functions.router.flask_app import create_app  # noqa: PLC0415

        process = build_router(settings, catalogue, policies)
        app = create_app(
            process.router,
            is_ready=process.tail.is_caught_up,
            metrics=process.metrics,
            append_wait_s=settings.router.request_timeout_s,
            requests_topic=process.topics.requests,
        )
        return app, lambda: process.close(CLOSE_S)

    return serve(load, settings.router)


def _probed(settings: Settings) -> Settings:
    """Where nothing else is said, a consumer's probes are where the function's would be."""
    router, probes = settings.router, settings.probes
    if probes.port is not None or not router.port:
        return settings
    here = ProbeSettings(host=router.host, port=router.port)
    return msgspec.structs.replace(settings, probes=here)


def _consume(settings: Settings, catalogue: Catalogue, policies: Policies) -> int:
    stop = StopFlag.install()
    process = build_router(settings, catalogue, policies)
    try:
        while not process.tail.is_caught_up() and not stop.wait(0.02):
            pass
        consumer = process.log.group(
            group=process.topics.router_group,
            topics=(process.topics.requests,),
            client="router",
            is_awaited=True,
        )
        binding = LogBinding(process.router)
        limits = LoopLimits(in_flight=IN_FLIGHT, give_up=give_up_rule(settings))
        with watched_feed(
            _probed(settings), process.log, process.topics, process.metrics, stop
        ) as looked_at:
            ConsumerLoop(
                consumer,
                binding.begin,
                give_up=binding.abandon,
                clock=SystemClock(),
                stop=looked_at,
                limits=limits,
            ).run()
    finally:
        process.close(CLOSE_S)
    return 0
