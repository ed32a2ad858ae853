"""`RecordLog` on a Kafka-protocol cluster: librdkafka carries the records, kafka-python administers (ADR 0016).

kafka-python is read where it is used: a process that only carries records starts without it.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from functions.kafka.consumer import KafkaGroupConsumer
from functions.kafka.librdkafka import client_config, reach_cluster
from functions.kafka.member_note import MemberNote
from functions.kafka.producer import KafkaAppender
from functions.kafka.tail import KafkaTail
from functions.runtime.settings import BrokerSettings

if TYPE_CHECKING:
    from functions.kafka.lag import KafkaLagReader
    from functions.kafka.membership import KafkaGroupMembership
    from functions.kafka.offset_reader import KafkaOffsetReader
    from functions.kafka.topics import KafkaTopicAdmin


class KafkaLog:
    """One cluster."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._settings = settings

    def appender(self, *, client: str) -> KafkaAppender:
        return KafkaAppender(self._settings, client_config(self._settings, client))

    def group(
        self,
        *,
        group: str,
        topics: tuple[str, ...],
        client: str,
        member_file: Path | None = None,
        is_awaited: bool = False,
    ) -> KafkaGroupConsumer:
        note = None
        if member_file is not None:
            note = MemberNote(member_file, group, lambda: self.membership(client=client))
        config = client_config(self._settings, client)
        return KafkaGroupConsumer(
            self._settings, config, group=group, topics=topics, note=note, is_awaited=is_awaited
        )

    def tail(
        self,
        *,
        topics: tuple[str, ...],
        client: str,
        from_start: bool,
        partition: int | None = None,
        is_awaited: bool = False,
    ) -> KafkaTail:
        config = client_config(self._settings, client)
        return KafkaTail(
            self._settings,
            config,
            topics,
            from_start=from_start,
            partition=partition,
            is_awaited=is_awaited,
        )

    def lag_reader(self, *, client: str) -> "KafkaLagReader":
        from functions.kafka.admin_client import client_options  # noqa: PLC0415
        from functions.kafka.lag import KafkaLagReader  # noqa: PLC0415

        return KafkaLagReader(client_options(self._settings, client))

    def offset_reader(self, *, client: str) -> "KafkaOffsetReader":
        from functions.kafka.admin_client import client_options  # noqa: PLC0415
        from functions.kafka.offset_reader import KafkaOffsetReader  # noqa: PLC0415

        return KafkaOffsetReader(client_options(self._settings, client))

    def membership(self, *, client: str) -> "KafkaGroupMembership":
        from functions.kafka.admin_client import client_options  # noqa: PLC0415
        from functions.kafka.membership import KafkaGroupMembership  # noqa: PLC0415

        return KafkaGroupMembership(client_options(self._settings, client))

    def reach(self, *, client: str, timeout_s: float) -> None:
        reach_cluster(client_config(self._settings, client), timeout_s)

    def admin(self, *, client: str) -> "KafkaTopicAdmin":
        from functions.kafka.admin_client import client_options  # noqa: PLC0415
        from functions.kafka.topics import KafkaTopicAdmin  # noqa: PLC0415

        return KafkaTopicAdmin(
            client_options(self._settings, client), may_create=self._settings.kind != "embedded"
        )
