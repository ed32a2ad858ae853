"""The frozen wire forms: an event, its Kafka record, and where a record lies."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from events.names import JSON

NO_EXTENSIONS: Final[Mapping[str, str]] = MappingProxyType({})


class PartitionId(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A CloudEvents 1.0 event as this product uses it: string attributes, JSON bytes as data.

    `time` is RFC 3339 text in UTC (or None). `data` None means no data (a tombstone when it is recorded on a
    compacted topic). `extensions` never contains core attributes; values are strings.
    """

    id: str
    source: str
    type: str
    subject: str | None = None
    time: str | None = None
    datacontenttype: str = JSON
    dataschema: str | None = None
    data: bytes | None = None
    extensions: Mapping[str, str] = field(default_factory=lambda: NO_EXTENSIONS)

    def get(self, extension: str) -> str | None:
        """The value of an extension attribute, or None where it is absent."""
        return self.extensions.get(extension)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A Kafka record, read (`offset` >= 0) or to be written (`offset` -1; `partition` None lets the key choose)."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None
    offset: int = -1
    timestamp_ms: int = -1
    unreadable: str | None = None
    """Why nothing but the place of this record is known: a broken checksum, an unknown codec. None: it was read."""

    @property
    def partition_id(self) -> PartitionId:
        return PartitionId(self.topic, -1 if self.partition is None else self.partition)

    @property
    def size_bytes(self) -> int:
        """Bytes of key, value and headers: what limits and admission count."""
        return (
            len(self.value or b"")
            + len(self.key or b"")
            + sum(len(name) + len(value or b"") for name, value in self.headers)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """An event with its destination: what pure handlers return and the edge appends.

    `partition` is explicit for reply partitions; elsewhere None and `key` chooses.
    """

    topic: str
    key: str | None
    event: Event
    partition: int | None = None
