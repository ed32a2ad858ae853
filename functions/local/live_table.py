"""The live table of `pickspin up`: processes, models, and the last few changes. Rendering only."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from functions.local.columns import Column, format_rows, make_columns, pack_parts, wrap_text

MODEL: Final = make_columns(
    ("model", "state", "replicas", "lag", "in flight", "req/s", "ready in"),
    numbers=("replicas", "lag", "in flight", "req/s", "ready in"),
)
PROCESS: Final = make_columns(
    ("process", "pid", "state", "restarts", "memory"), numbers=("pid", "restarts", "memory")
)
LEAST_RECENT: Final = 3
"""Lines of the last changes that are kept, however much else there is."""
QUIET: Final = frozenset({"cold", "asleep"})
"""Models in these states are only named where there is no room for a line each."""
STATE_STYLES = {
    "running": "green",
    "ready": "green",
    "starting": "yellow",
    "loading": "yellow",
    "warming": "yellow",
    "draining": "yellow",
    "stopping": "yellow",
    "restarting": "red",
    "failed": "red",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRow:
    """One process. `pid` None: not running now."""

    name: str
    pid: int | None
    state: str
    restarts: int
    resident_bytes: int
    """Of it and everything that it started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """One service. `eta_s` None: not known."""

    slug: str
    state: str
    replicas: int
    desired: int
    lag: int
    in_flight: int
    eta_s: float | None
    rate_per_s: float
    is_simulated: bool
    is_late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TableContent:
    """Everything the table shows at one instant."""

    title: str
    processes: tuple[ProcessRow, ...]
    models: tuple[ModelRow, ...]
    recent: tuple[str, ...]


def render(board: TableContent, width: int, height: int) -> RenderableType:
    """The board on a screen of that size: models first, then processes, then the last changes.

    Names are never cut. Where there is no room for all, processes become one sentence, then sleeping models names only.
    """
    room = height - LEAST_RECENT - 3  # title and two empty lines
    models, processes = _models(board.models, width), _processes(board.processes, width)
    if len(models) + len(processes) > room:
        processes = _summary(board.processes, width)
    if len(models) + len(processes) > room:
        models = _awake_first(board.models, width)
    spare = max(LEAST_RECENT, height - 3 - len(models) - len(processes))
    recent = [line for text in board.recent[-spare:] for line in wrap_text(text, width)][-spare:]
    return Group(
        Text(board.title, style="bold"),
        *(models or [Text()]),
        Text(),
        *processes,
        Text(),
        Text("\n".join(recent), style="dim"),
    )


def _models(rows: Sequence[ModelRow], width: int) -> list[Text]:
    return _style(MODEL, [_model_cells(row) for row in rows], [row.state for row in rows], width)


def _model_cells(row: ModelRow) -> tuple[str, ...]:
    return (
        f"{row.slug} (simulated)" if row.is_simulated else row.slug,
        row.state,
        f"{row.replicas}/{row.desired}",
        str(row.lag),
        str(row.in_flight),
        f"{row.rate_per_s:.2f}",
        "late" if row.is_late else seconds(row.eta_s),
    )


def _awake_first(rows: Sequence[ModelRow], width: int) -> list[Text]:
    """A line for each model that does something; of the others only the names."""
    awake = [row for row in rows if row.state not in QUIET or row.lag]
    asleep = [row for row in rows if row not in awake]
    names = pack_parts([f"{len(asleep)} asleep:", *(row.slug for row in asleep)], width, indent="")
    return [*(_models(awake, width) if awake else ()), *(map(Text, names) if asleep else ())]


def _processes(rows: Sequence[ProcessRow], width: int) -> list[Text]:
    cells = [
        (
            row.name,
            "-" if row.pid is None else str(row.pid),
            row.state,
            str(row.restarts),
            mebibytes(row.resident_bytes),
        )
        for row in rows
    ]
    return _style(PROCESS, cells, [row.state for row in rows], width)


def _summary(rows: Sequence[ProcessRow], width: int) -> list[Text]:
    """All processes in a sentence, each by name only where something is the matter with it."""
    good = [row for row in rows if STATE_STYLES.get(row.state) == "green" and not row.restarts]
    parts = [f"{len(good)} processes run"]
    parts += [
        f"{row.name} is {row.state}" + (f" ({row.restarts} restarts)" if row.restarts else "")
        for row in rows
        if row not in good
    ]
    total = mebibytes(sum(row.resident_bytes for row in rows))
    return [Text(line) for line in wrap_text("; ".join([*parts, f"{total} in all"]), width)]


def _style(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], states: Iterable[str], width: int
) -> list[Text]:
    lines = [Text(line) for line in format_rows(columns, rows, width)]
    for state in set(states):
        for line in lines:
            line.highlight_words([f" {state}"], STATE_STYLES.get(state, ""))
    return lines


def mebibytes(size_bytes: int) -> str:
    """`35 MiB`; a dash for nothing."""
    return f"{size_bytes / 2**20:.0f} MiB" if size_bytes else "-"


def seconds(value: float | None) -> str:
    """`now`, `2.5 s`, or a dash when it is not known."""
    if value is None:
        return "-"
    return "now" if value == 0 else f"{value:.1f} s"
