"""The topics of one installation, sized by the settings of the local stack."""

from typing import Final

from events.names import Topics
from functions.ports.kafka import TopicSpec
from functions.runtime.settings import Settings
from router_model.catalogue.model import Catalogue

DAY_S: Final = 24 * 3600
RETRY_PARTITIONS: Final = 3


def topic_specs(settings: Settings, catalogue: Catalogue) -> tuple[TopicSpec, ...]:
    """Every topic, shared ones first, then three a service (disabled services too: enabling needs no restart).

    Pure; names carry the prefix of `settings.broker`.
    """
    topics, keyed = Topics(settings.broker.prefix), settings.broker.partitions
    shared = (
        TopicSpec(name=topics.requests, partitions=keyed),
        TopicSpec(name=topics.progress, partitions=keyed, retention_s=DAY_S),
        TopicSpec(name=topics.replies, partitions=settings.broker.reply_partitions),
        TopicSpec(name=topics.responses, partitions=keyed),
        TopicSpec(name=topics.status, partitions=keyed, compacted=True),
        TopicSpec(name=topics.control, partitions=1, retention_s=DAY_S),
        TopicSpec(name=topics.dlq, partitions=keyed),
    )
    return shared + tuple(
        spec
        for service in catalogue.services
        for spec in _service_topics(topics, service.slug, keyed)
    )


def _service_topics(topics: Topics, slug: str, keyed: int) -> tuple[TopicSpec, ...]:
    interactive, batch, retry = topics.of_service(slug)
    return (
        TopicSpec(name=interactive, partitions=keyed),
        TopicSpec(name=batch, partitions=keyed),
        TopicSpec(name=retry, partitions=min(RETRY_PARTITIONS, keyed)),
    )
