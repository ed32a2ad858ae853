"""The verbs of `pickspin --help`, in groups."""

from collections.abc import Mapping
from typing import Any, Final

from typer.core import TyperGroup

from functions.processes import PROCESSES

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "Serve": ("up",),
    "Ask what runs": ("models", "status", "request", "batch", "doctor"),
    "Routing": ("route", "replay", "tune", "train", "extend", "outcomes"),
    "Settings and files": ("settings", "catalogue", "version"),
    "Single processes": tuple(PROCESSES),
}


class GroupedVerbs(TyperGroup):
    """Lists its commands under the headings of GROUPS."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes a section for each group."""
        room = formatter.width - 6 - max(map(len, self.commands))
        for title, names in GROUPS.items():
            verbs = [(name, self.commands[name]) for name in names if name in self.commands]
            with formatter.section(title):
                formatter.write_dl([(name, one.get_short_help_str(room)) for name, one in verbs])
