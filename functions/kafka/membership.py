"""Members that cannot leave their group themselves, with kafka-python: LeaveGroup in their name (KIP-345).

A coordinator keeps the partitions of a member that was killed until its session ends (`session_timeout_s`), and every
rebalance meanwhile waits for it.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final

from kafka import KafkaAdminClient
from kafka.admin import MemberToRemove

from functions.kafka.coordinator_retry import retry_coordinator

BOOTSTRAP_MS: Final = 5000
_REASON: Final = "its process is gone"


class KafkaGroupMembership:
    """`GroupMembership` through an admin client. A coordinator that is on its way is waited for, for some seconds."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._admin = KafkaAdminClient(bootstrap_timeout_ms=BOOTSTRAP_MS, **options)
        self._patiently = retry_coordinator()

    def remove(self, group: str, clients: Collection[str]) -> int:
        description = self._patiently(self._admin.describe_groups, [group])[group]
        members = [
            member["member_id"]
            for member in description["members"]
            if member["client_id"] in clients
        ]
        return self.remove_members(group, members)

    def remove_members(self, group: str, members: Sequence[str]) -> int:
        """Removes members by their ids; returns how many of them the coordinator knew."""
        if not members:
            return 0
        wanted = [MemberToRemove(member_id=member, reason=_REASON) for member in members]
        answers = self._patiently(self._admin.remove_group_members, group, wanted)
        return sum(answer.errno == 0 for answer in answers.values())

    def close(self) -> None:
        self._admin.close()
