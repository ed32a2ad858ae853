"""Wires the source process of the local stack: request records in, calls of the router out."""

from dataclasses import replace
from typing import Final

from events.names import Topics
from functions import factories
from functions.router.consumer_loop import ConsumerLoop, LoopLimits
from functions.router.consumer_watch import watched_feed
from functions.router.kafka_source import RouterAddress, Source
from functions.router.publisher import RouterPublisher
from functions.router.router_factory import give_up_rule, open_partitions, reply_rules
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import Settings
from functions.runtime.shutdown import StopFlag, prefer_latency
from functions.runtime.system_clock import SystemClock
from functions.runtime.telemetry import Metrics

CLOSE_S: Final = 5.0


def run(settings: Settings) -> int:
    """Delivers until SIGTERM or SIGINT. Returns the exit status.

    Raises:
        StartupFailed: the router's port is not set, or the cluster is not usable.
    """
    prefer_latency()
    router = settings.router
    if not router.port:
        raise StartupFailed("router.port is not set: the source must know where the router listens")
    stop = StopFlag.install()
    log, topics, metrics = factories.open_log(settings), Topics(settings.broker.prefix), Metrics()
    appender = log.appender(client="source")
    rules = reply_rules(settings, topics)
    partitions = open_partitions(log, rules, client="source-replies")
    publisher = RouterPublisher(
        appender=appender,
        rules=replace(rules, has_partition=partitions.has),
        clock=SystemClock(),
        metrics=metrics,
    )
    address = RouterAddress(
        host=router.host, port=router.port, timeout_s=router.request_timeout_s + 1
    )
    source = Source(address, publisher, in_flight=router.source_in_flight)
    consumer = log.group(
        group=topics.router_group, topics=(topics.requests,), client="source", is_awaited=True
    )
    limits = LoopLimits(in_flight=router.source_in_flight, give_up=give_up_rule(settings))
    try:
        with watched_feed(settings, log, topics, metrics, stop) as looked_at:
            ConsumerLoop(
                consumer,
                source.begin,
                clock=SystemClock(),
                stop=looked_at,
                give_up=source.abandon,
                limits=limits,
            ).run()
    finally:
        source.close()
        appender.close(CLOSE_S)
        partitions.close()
    return 0
