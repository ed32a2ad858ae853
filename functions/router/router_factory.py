"""Wires a `Router` from settings, the same for both bindings."""

from dataclasses import dataclass, replace
from functools import partial

from events.names import Topics
from functions import factories
from functions.ports.kafka import RecordAppender, RecordLog
from functions.router.handler import RouterPolicy
from functions.router.patience import Patience
from functions.router.refusals import ReplyPolicy
from functions.router.router import Router, RouterParts
from functions.runtime.registry_consumer import RegistryConsumer
from functions.runtime.reply_partitions import ReplyPartitions
from functions.runtime.settings import Settings
from functions.runtime.system_clock import SystemClock
from functions.runtime.telemetry import Metrics
from router_model.catalogue.model import Catalogue
from router_model.routing.estimate_history import new_history


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
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


def build(settings: Settings, catalogue: Catalogue) -> Built:
    """Connects. Must run in the process (and, under gunicorn, the worker) that serves: clients own threads.

    Raises:
        StartupFailed: a setting or the cluster is not usable.
    """
    log, topics, metrics = factories.open_log(settings), Topics(settings.broker.prefix), Metrics()
    tail = RegistryConsumer(log, topics, "router-registry")
    tail.start()
    appender = log.appender(client="router")
    policy = policy_of(settings, topics, metrics)
    partitions = partitions_of(log, policy, client="router-replies")
    router = Router(
        RouterParts(
            catalogue=catalogue,
            registry=lambda: tail.registry,
            clock=SystemClock(),
            policy=replace(policy, has_partition=partitions.has),
            appender=appender,
            blobs=factories.open_blobs(settings),
            metrics=metrics,
            history=new_history(catalogue.norm, settings.router.history),
        )
    )
    return Built(
        router=router,
        tail=tail,
        appender=appender,
        metrics=metrics,
        log=log,
        topics=topics,
        partitions=partitions,
    )


def partitions_of(log: RecordLog, policy: ReplyPolicy, *, client: str) -> ReplyPartitions:
    """The partitions of all topics that replies may go to."""
    topics = policy.topics
    named = (topics.replies, topics.responses, *sorted(policy.reply_topics))
    return ReplyPartitions(partial(log.offset_reader, client=client), named, SystemClock())


def policy_of(settings: Settings, topics: Topics, metrics: Metrics) -> RouterPolicy:
    """The handler's policy. A classifier that cannot be used is counted in `metrics`."""
    replies = reply_policy_of(settings, topics)
    return RouterPolicy(
        topics=topics,
        classifier=factories.load_classifier(settings, metrics.classifier_fallbacks.inc),
        reply_topics=replies.reply_topics,
        max_hops=settings.router.max_hops,
        background_wait_s=settings.ingress.background_wait_s,
        max_record_bytes=replies.max_record_bytes,
    )


def reply_policy_of(settings: Settings, topics: Topics) -> ReplyPolicy:
    """Where replies may go, and how large a record may be."""
    return ReplyPolicy(
        topics=topics,
        reply_topics=settings.ingress.further_reply_topics,
        max_record_bytes=settings.broker.max_record_bytes,
    )


def patience_of(settings: Settings) -> Patience:
    """When a record is tried no longer."""
    return Patience(tries=settings.router.give_up_tries, bound_s=settings.router.give_up_s)
