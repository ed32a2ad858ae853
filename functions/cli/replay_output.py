"""The text of a replay: one line a request, and the summary's table. Pure."""

from typing import Final

from functions.local.columns import pack_parts
from router_model.replay.replay_summary import Comparison, Pair, ReplaySummary, Total, Totals
from router_model.replay.replayed_decisions import Choice, Redecided

ABSENT: Final = "-"
_WIDTHS: Final = (36, 24, 24, 34, 22)
_HEAD: Final = ("REQUEST", "WAS", "WOULD BE", "USD", "SECONDS", "ANSWERED")
LINE_WIDTH: Final = 180
"""What a line of every column may need."""
_DECIMALS: Final = {"cost_usd": 6, "seconds": 2, "answered": 3}
_NAMES: Final = {"cost_usd": "USD", "seconds": "seconds", "answered": "answered well"}


def request_lines_head(width: int) -> str:
    """The head above `format_rows`, with what its marks mean."""
    marks = "(= measured, ~ expected, - not known)"
    return f"{_padded(_HEAD)}\n{marks}" if width >= LINE_WIDTH else marks


def request_lines(redecided: Redecided, width: int) -> list[str]:
    """One request on a line, or on a block of them where the terminal is narrower than that."""
    if width >= LINE_WIDTH:
        return [line_of(redecided)]
    name, was, would, *figures = _cells(redecided)
    labelled = [f"{label} {cell}" for label, cell in zip(_HEAD[3:], figures, strict=False)]
    return [name, *pack_parts([f"{was} > {would}", *labelled], width)]


def line_of(redecided: Redecided) -> str:
    """One request: both services, and of each quantity the measured values (=) of both choices where both have one.

    Else what is expected (~) of both, after what was measured of the recorded one: only the same kinds compare.
    """
    return _padded(_cells(redecided))


def _cells(redecided: Redecided) -> tuple[str, ...]:
    if redecided.would is None:
        return (redecided.id, _service(redecided.was), f"refused: {redecided.refusal}")
    cells = (redecided.id, _service(redecided.was), _service(redecided.would))
    return (*cells, *(_both(redecided.was, redecided.would, name) for name in _DECIMALS))


def summary_rows(summary: ReplaySummary) -> list[tuple[str, ...]]:
    """The summary: each comparison over the requests that have it for both choices, and how many those are."""
    rows: list[tuple[str, ...]] = [("", "REQUESTS", "WAS", "WOULD BE", "CHANGE")]
    rows += _compared("expected of both", summary.expected)
    rows += _compared("measured of both", summary.measured)
    if summary.answered.count:
        measured = f"{summary.measured_was} and {summary.measured_would} measured"
        rows.append(
            _pair(f"answered well, {measured}, else expected", "answered", summary.answered)
        )
    rows += _one_sided("measured, wherever it was", summary.recorded, is_would=False)
    rows += _one_sided("measured, wherever it was", summary.replayed_measured, is_would=True)
    rows += _one_sided("expected of all", summary.replayed, is_would=True)
    for service, (was, would) in sorted(summary.services.items()):
        rows.append((f"requests to {service}", "", str(was), str(would), f"{would - was:+d}"))
    return rows


def _compared(label: str, comparison: Comparison) -> list[tuple[str, ...]]:
    pairs = ((name, getattr(comparison, name)) for name in _DECIMALS)
    return [_pair(_named(label, name), name, pair) for name, pair in pairs if pair.count]


def _one_sided(label: str, totals: Totals, *, is_would: bool) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name in _DECIMALS:
        one: Total = getattr(totals, name)
        if one.count:
            shown = _shown(name, one.total, one.count)
            cells = ("", shown) if is_would else (shown, "")
            rows.append((_named(label, name), str(one.count), *cells, ""))
    return rows


def _pair(label: str, name: str, pair: Pair) -> tuple[str, ...]:
    was, would = (_shown(name, value, pair.count) for value in (pair.was, pair.would))
    change = ABSENT if pair.was == 0 else f"{(pair.would - pair.was) / pair.was:+.1%}"
    return (label, str(pair.count), was, would, change)


def _named(label: str, name: str) -> str:
    return f"{_NAMES[name]}, {label}"


def _shown(name: str, total: float, count: int) -> str:
    """Money as a sum, the others as a mean."""
    if name == "cost_usd":
        return f"{total:.6f} in all"
    return f"{total / count:.3f} on average"


def _service(choice: Choice | None) -> str:
    return ABSENT if choice is None else choice.service


def _both(was: Choice | None, would: Choice, name: str) -> str:
    old, new = _values(was, name), _values(would, name)
    measured = [value for value in (old[:1] + new[:1]) if value.startswith("=")]
    if len(measured) == 2:
        return " > ".join(measured)
    return f"{' '.join(old) or ABSENT} > {' '.join(new) or ABSENT}"


def _values(choice: Choice | None, name: str) -> list[str]:
    """What was measured, then what is expected; what is not known is left out."""
    if choice is None:
        return []
    kinds = (("=", choice.measured), ("~", choice.expected))
    known = ((mark, getattr(figures, name)) for mark, figures in kinds)
    return [f"{mark}{value:.{_DECIMALS[name]}f}" for mark, value in known if value is not None]


def _padded(cells: tuple[str, ...]) -> str:
    widths = (*_WIDTHS, 0)
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=False)).rstrip()
