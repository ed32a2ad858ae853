"""The member of a group that a process leaves behind when it is killed, noted in a file for the one after it."""

import json
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, Protocol

log = logging.getLogger(__name__)

OLD_S: Final = 86_400.0
"""Notes of others are removed after this: on a volume that pods share, those of pods that were killed stay behind."""


class RemovesMembers(Protocol):
    """What removes a member of a group by its id."""

    def remove_members(self, group: str, members: Sequence[str]) -> int: ...

    def close(self) -> None: ...


class MemberNote:
    """A file with the id under which this process is a member: who finds it there at its start knows that the process
    before it, with the same file, was killed.
    """

    def __init__(
        self, path: Path, group: str, open_membership: Callable[[], RemovesMembers]
    ) -> None:
        self._path = path
        self._group = group
        self._open_membership = open_membership
        self._written = ""

    def remove_former(self) -> None:
        """Removes the member that the file names. A broker that does not do it costs time, nothing else."""
        member = self._read()
        if not member:
            return
        try:
            with closing(self._open_membership()) as membership:
                count = membership.remove_members(self._group, [member])
        except Exception as error:  # noqa: BLE001 - whatever the client raises, the new member joins
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
            note = json.loads(self._path.read_text("utf-8"))
            return str(note["member"]) if note["group"] == self._group else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""
