"""Missing offsets of consumer groups, and the port that commits them. Pure."""

from collections.abc import Mapping
from typing import Protocol

from events.event import PartitionId
from events.names import Topics
from functions.ports.kafka import Offsets
from router_model.catalogue.model import Catalogue


class OffsetCommitter(Protocol):
    """Commits for a group without members."""

    def commit(self, group: str, offsets: Mapping[PartitionId, int]) -> bool:
        """False when the group has members: then its offsets are theirs to commit."""
        ...


def find_missing_offsets(offsets: Mapping[PartitionId, Offsets]) -> dict[PartitionId, int]:
    """The offset to commit for each partition whose group has none, or whose commit expired: the start of what is
    still in the log.
    """
    return {part: known.start for part, known in offsets.items() if known.committed is None}


def list_work_groups(catalogue: Catalogue, topics: Topics) -> dict[str, tuple[str, ...]]:
    """The groups that may sleep, with their topics: the router's and each enabled service's."""
    services = {
        topics.worker_group(service.slug): topics.of_service(service.slug)
        for service in catalogue.services
        if service.enabled
    }
    return {topics.router_group: (topics.requests,), **services}
