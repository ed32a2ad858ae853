"""Wires a `Router` from settings, the same for both bindings."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from events.names import Topics
from functions import factories
from functions.ports.kafka import RecordAppender, RecordLog
from functions.router.give_up import GiveUpRule
from functions.router.handler import RouterRules
from functions.router.refusals import ReplyRules
from functions.router.router import Router, RouterDependencies
from functions.runtime.registry_consumer import RegistryConsumer
from functions.runtime.reply_partitions import ReplyPartitions
from functions.runtime.settings import Settings
from functions.runtime.system_clock import SystemClock
from functions.runtime.telemetry import Metrics
from router_model.catalogue.model import Catalogue
from router_model.routing.context import RoutingContext
from router_model.routing.estimate_history import start_history
from router_model.routing.policy import LoadedPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterProcess:
    """A router with everything it owns. `close` flushes and ends its threads."""

    router: Router
    tail: RegistryConsumer
    appender: RecordAppender
    metrics: Metrics
    log: RecordLog
    topics: Topics
    partitions: ReplyPartitions

    def close(self, timeout_s: float) -> None:
        self.appender.close(timeout_s)
        self.tail.close()
        self.partitions.close()


def build_router(
    settings: Settings, catalogue: Catalogue, policies: Mapping[str, LoadedPolicy]
) -> RouterProcess:
    """Connects. Must run in the process (and, under gunicorn, the worker) that serves: clients own threads.

    Raises:
        StartupFailed: a setting or the cluster is not usable.
    """
    log, topics, metrics = factories.open_log(settings), Topics(settings.broker.prefix), Metrics()
    tail = RegistryConsumer(log, topics, "router-registry")
    tail.start()
    appender = log.appender(client="router")
    rules, clock = router_rules(settings, topics), SystemClock()
    partitions = open_partitions(log, rules, client="router-replies")
    context = RoutingContext(
        catalogue=catalogue,
        registry=tail.registry,
        now=clock.now(),
        classifier=factories.load_classifier(settings, metrics.classifier_fallbacks.inc),
        history=start_history(catalogue.norm, settings.router.history),
        policies=policies,
    )
    router = Router(
        RouterDependencies(
            context=context,
            registry=lambda: tail.registry,
            clock=clock,
            rules=replace(rules, has_partition=partitions.has),
            appender=appender,
            blobs=factories.open_blobs(settings),
            metrics=metrics,
        )
    )
    return RouterProcess(
        router=router,
        tail=tail,
        appender=appender,
        metrics=metrics,
        log=log,
        topics=topics,
        partitions=partitions,
    )


def open_partitions(log: RecordLog, rules: ReplyRules, *, client: str) -> ReplyPartitions:
    """The partitions of all topics that replies may go to."""
    topics = rules.topics
    named = (topics.replies, topics.responses, *sorted(rules.reply_topics))
    return ReplyPartitions(partial(log.offset_reader, client=client), named, SystemClock())


def router_rules(settings: Settings, topics: Topics) -> RouterRules:
    """The handler's rules."""
    replies = reply_rules(settings, topics)
    return RouterRules(
        topics=topics,
        reply_topics=replies.reply_topics,
        max_hops=settings.router.max_hops,
        background_wait_s=settings.ingress.background_wait_s,
        max_record_bytes=replies.max_record_bytes,
    )


def reply_rules(settings: Settings, topics: Topics) -> ReplyRules:
    """Where replies may go, and how large a record may be."""
    return ReplyRules(
        topics=topics,
        reply_topics=settings.ingress.further_reply_topics,
        max_record_bytes=settings.broker.max_record_bytes,
    )


def give_up_rule(settings: Settings) -> GiveUpRule:
    """When a record is tried no longer."""
    return GiveUpRule(tries=settings.router.give_up_tries, bound_s=settings.router.give_up_s)
