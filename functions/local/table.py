"""The live table of `pickspin up`: processes, models, and the last few changes. Rendering only."""

from collections.abc import Iterable
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """Everything the table shows at one instant."""

    title: str
    processes: tuple[ProcessRow, ...]
    models: tuple[ModelRow, ...]
    recent: tuple[str, ...]


def render(board: Board) -> RenderableType:
    """The table of a board."""
    recent = Text("\n".join(board.recent), style="dim")
    return Group(
        Text(board.title, style="bold"), _processes(board.processes), _models(board.models), recent
    )


def _processes(rows: Iterable[ProcessRow]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("process")
    for name in ("pid", "state", "restarts", "memory"):
        table.add_column(name, justify="left" if name == "state" else "right")
    for row in rows:
        table.add_row(
            row.name,
            "-" if row.pid is None else str(row.pid),
            _state(row.state),
            str(row.restarts),
            mebibytes(row.resident_bytes),
        )
    return table


def _models(rows: Iterable[ModelRow]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("model")
    table.add_column("state")
    for name in ("replicas", "lag", "in flight", "requests/s", "ready in"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            f"{row.slug} (simulated)" if row.is_simulated else row.slug,
            _state(row.state),
            f"{row.replicas}/{row.desired}",
            str(row.lag),
            str(row.in_flight),
            f"{row.rate_per_s:.2f}",
            seconds(row.eta_s),
        )
    return table


def _state(state: str) -> Text:
    return Text(state, style=STATE_STYLES.get(state, ""))


def mebibytes(size_bytes: int) -> str:
    """`35 MiB`; a dash for nothing."""
    return f"{size_bytes / 2**20:.0f} MiB" if size_bytes else "-"


def seconds(value: float | None) -> str:
    """`now`, `2.5 s`, or a dash when it is not known."""
    if value is None:
        return "-"
    return "now" if value == 0 else f"{value:.1f} s"
