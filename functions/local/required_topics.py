"""Which topics one local installation needs: the table of `events.names`, sized by the settings."""

from collections.abc import Iterator

from events.names import SERVICE_TOPICS, SHARED_TOPICS, Topic, Topics
from functions.ports.kafka import TopicSpec
from functions.runtime.settings import Settings
from router_model.catalogue.model import Catalogue


def topic_specs(settings: Settings, catalogue: Catalogue) -> tuple[TopicSpec, ...]:
    """Every topic, shared ones first, then those of each service.

    Disabled services are included: enabling one needs no restart.
    Pure; names carry the prefix of `settings.broker`.
    """
    topics = Topics(settings.broker.prefix)
    return tuple(
        TopicSpec(
            name=name,
            partitions=_partitions(settings, name, topic),
            compacted=topic.is_compacted,
            retention_s=topic.retention_s,
        )
        for name, topic in _named_topics(topics, catalogue)
    )


def _named_topics(topics: Topics, catalogue: Catalogue) -> Iterator[tuple[str, Topic]]:
    for topic in SHARED_TOPICS:
        yield topics.prefix + topic.name, topic
    for service in catalogue.services:
        yield from zip(topics.of_service(service.slug), SERVICE_TOPICS, strict=True)


def _partitions(settings: Settings, name: str, topic: Topic) -> int:
    broker = settings.broker
    if name == Topics(broker.prefix).replies:
        return broker.reply_partitions
    return min(broker.partitions, topic.partitions or broker.partitions)
