"""`OffsetCommitter` with kafka-python."""

from collections.abc import Mapping

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import CommitFailedError
from kafka.structs import OffsetAndMetadata

from events.event import PartitionId
from functions.kafka.admin_client import client_options
from functions.runtime.settings import BrokerSettings


class KafkaOffsetCommitter:
    """A connection for each group, closed again."""

    def __init__(self, settings: BrokerSettings, client: str) -> None:
        self._settings = settings
        self._client = client

    def commit(self, group: str, offsets: Mapping[PartitionId, int]) -> bool:
        options = client_options(self._settings, self._client)
        consumer = KafkaConsumer(group_id=group, enable_auto_commit=False, **options)
        try:
            consumer.assign([TopicPartition(*part) for part in offsets])
            consumer.commit(
                {
                    TopicPartition(*part): OffsetAndMetadata(at, "", -1)
                    for part, at in offsets.items()
                }
            )
        except CommitFailedError:
            return False
        finally:
            consumer.close()
        return True
