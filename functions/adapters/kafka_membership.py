"""Members that cannot leave their group themselves, with kafka-python: LeaveGroup in their name (KIP-345).

A coordinator keeps the partitions of a member that was killed until its session ends (`session_timeout_s`), and every
rebalance meanwhile waits for it.
"""

import json
import logging
import time
from collections.abc import Collection, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from kafka import KafkaAdminClient
from kafka.admin import MemberToRemove
from kafka.errors import KafkaError

from functions.adapters.kafka_coordinators import patiently

log = logging.getLogger(__name__)

BOOTSTRAP_MS: Final = 5000
OLD_S: Final = 86_400.0
"""Notes of others are removed after this: on a volume that pods share, those of pods that were killed stay behind."""
_REASON: Final = "its process is gone"


class KafkaGroupMembership:
    """`GroupMembership` through an admin client. A coordinator that is on its way is waited for, for some seconds."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._admin = KafkaAdminClient(bootstrap_timeout_ms=BOOTSTRAP_MS, **options)
        self._patiently = patiently()

    def remove(self, group: str, clients: Collection[str]) -> int:
        found = self._patiently(self._admin.describe_groups, [group])[group]
        members = [
            member["member_id"] for member in found["members"] if member["client_id"] in clients
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


class MemberNote:
    """A file with the id under which this process is a member: who finds it there at its start knows that the process
    before it, with the same file, was killed.
    """

    def __init__(self, path: Path, group: str, options: dict[str, Any]) -> None:
        self._path = path
        self._group = group
        self._options = options
        self._written = ""

    def remove_former(self) -> None:
        """Removes the member that the file names. A broker that does not do it costs time, nothing else."""
        member = self._read()
        if not member:
            return
        try:
            with closing(KafkaGroupMembership(self._options)) as membership:
                count = membership.remove_members(self._group, [member])
        except (KafkaError, OSError) as error:
            log.warning("former member not removed", extra={"reason": type(error).__name__})
            return
        log.info("former member removed", extra={"group": self._group, "count": count})
        self.clear()

    def write(self, member: str) -> None:
        """Notes the id, where it is a new one."""
        if member == self._written:
            return
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps({"group": self._group, "member": member}), "utf-8")
            if not self._written:
                self._remove_old()
            self._written = member

    def clear(self) -> None:
        """Forgets it: the member has left."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _remove_old(self) -> None:
        for note in self._path.parent.glob("*.json"):
            with suppress(OSError):
                if time.time() - note.stat().st_mtime > OLD_S:
                    note.unlink(missing_ok=True)

    def _read(self) -> str:
        try:
            found = json.loads(self._path.read_text("utf-8"))
            return str(found["member"]) if found["group"] == self._group else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""
