"""How long a Kafka cluster keeps records and offsets, as its settings say."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError

from functions.kafka.admin_client import client_options
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import BrokerSettings

_TOPIC: Final = "retention.ms"
_OFFSETS: Final = "offsets.retention.minutes"


class KafkaRetention:
    """One admin client; opening it needs a broker that answers."""

    def __init__(self, settings: BrokerSettings, *, client: str) -> None:
        self._admin = KafkaAdminClient(**client_options(settings, client))

    def read_topics(self, topics: Iterable[str]) -> Mapping[str, int]:
        values = self._values(ConfigResourceType.TOPIC, topics, _TOPIC)
        return {name: int(text) for name, text in values.items()}

    def read_offsets(self) -> int | None:
        """By the first broker: where brokers differ in this, that is not on purpose."""
        brokers = [str(broker["broker_id"]) for broker in self._admin.describe_cluster()["brokers"]]
        values = self._values(ConfigResourceType.BROKER, sorted(brokers)[:1], _OFFSETS)
        return next((int(text) for text in values.values()), None)

    def close(self) -> None:
        self._admin.close()

    def _values(self, kind: Any, names: Iterable[str], key: str) -> Mapping[str, str]:
        """The setting of each resource that has it, by name."""
        asked = [ConfigResource(kind, name, [key]) for name in names]
        if not asked:
            return {}
        configs = self._admin.describe_configs(asked, config_filter="all")
        return {
            name: values[key]["value"]
            for name, values in configs.get(kind.name.lower(), {}).items()
            if values.get(key, {}).get("value") is not None
        }


@contextmanager
def explain_kafka_errors(bootstrap: str) -> Iterator[None]:
    """Whatever the client raises inside becomes StartupFailed, in one line."""
    try:
        yield
    except (KafkaError, OSError) as error:
        raise StartupFailed(
            f"Kafka at {bootstrap} could not be read ({type(error).__name__}): is the address right, and reachable "
            "from this machine?"
        ) from error
