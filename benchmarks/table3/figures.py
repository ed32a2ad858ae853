"""From runs to the columns of the table: means, paired intervals, and the hull of single models. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.routebench.bootstrap import draw_counts, interval, row_weights
from benchmarks.routebench.pool_metrics import hull
from benchmarks.table3.driving import Answered

Array = NDArray[np.float64]
Column = Literal["success", "seconds", "usd"]
COLUMNS: Final[tuple[Column, ...]] = ("success", "seconds", "usd")
EXPECTED: Final[tuple[Column, ...]] = ("success", "usd")
DRAWS: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. `success` is a share, `seconds` (of which `model_s` the model) and `usd` means."""

    name: str
    requests: int
    success: float
    seconds: float
    p95_s: float
    model_s: float
    usd: float
    busy_usd: float
    failed: int
    shares: Mapping[str, float]
    stages: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Change:
    """A value with the middle 95 % of the bootstrap. Success: difference of shares; the others: relative change."""

    value: float
    low: float
    high: float

    def is_better(self, column: Column) -> bool:
        """The whole interval lies on the better side of zero."""
        return self.low > 0 if column == "success" else self.high < 0


def row_of(name: str, run: Sequence[Answered]) -> Row:
    return Row(
        name=name,
        requests=len(run),
        success=_mean(one.success for one in run),
        seconds=_mean(one.seconds for one in run),
        p95_s=float(np.quantile([one.seconds for one in run], 0.95)),
        model_s=_mean(one.model_s for one in run),
        usd=_mean(one.usd for one in run),
        busy_usd=_mean(one.busy_usd for one in run),
        failed=sum(one.model is None for one in run),
        shares=_shares(one.model for one in run),
        stages=_shares(one.stage for one in run),
    )


class Draws:
    """Bootstrap over questions: the same draws for every run; requests of one question go together."""

    def __init__(self, run: Sequence[Answered], seed: int, draws: int = DRAWS) -> None:
        qkeys = [one.qkey for one in run]
        drawn = sorted(set(qkeys))
        self._weights = row_weights(draw_counts(len(drawn), draws, seed), drawn, qkeys)

    def means(self, run: Sequence[Answered], column: str) -> Array:
        """The mean of a column in each draw."""
        values = np.array([getattr(one, column) for one in run])
        return np.asarray(self._weights @ values / self._weights.sum(axis=1))

    def change(self, ours: Sequence[Answered], other: Sequence[Answered], column: Column) -> Change:
        """Ours against another run of the same requests, question by question."""
        found = _change(_column_mean(ours, column), _column_mean(other, column), column)
        return _with_interval(found, self.means(ours, column), self.means(other, column), column)

    def against_expected(self, ours: Sequence[Answered]) -> dict[Column, Change]:
        """Ours against the mean of all draws of random allocation, where the outcomes alone tell it: success, cost."""
        return {
            column: _with_interval(
                _change(
                    _column_mean(ours, column), _column_mean(ours, f"expected_{column}"), column
                ),
                self.means(ours, column),
                self.means(ours, f"expected_{column}"),
                column,
            )
            for column in EXPECTED
        }

    def above_hull(
        self,
        ours: Sequence[Answered],
        singles: Sequence[Sequence[Answered]],
        column: Column,
    ) -> Change:
        """Success of ours less that of the best mixture of single models at the same mean cost (or seconds).

        Mixtures interpolate between single models; below the cheapest one the hull is its success, above the dearest
        the most that any has. The hull is drawn again in each draw.
        """
        found = _above(
            (_column_mean(ours, column), _column_mean(ours, "success")),
            [(_column_mean(one, column), _column_mean(one, "success")) for one in singles],
        )
        places = [self.means(one, column) for one in singles]
        heights = [self.means(one, "success") for one in singles]
        mine = zip(self.means(ours, column), self.means(ours, "success"), strict=True)
        per_draw = np.array(
            [
                _above(point, [(p[n], h[n]) for p, h in zip(places, heights, strict=True)])
                for n, point in enumerate(mine)
            ]
        )
        return Change(found, *interval(per_draw))


def _above(point: tuple[float, float], singles: list[tuple[float, float]]) -> float:
    places, heights = zip(*hull(singles), strict=True)
    return float(point[1] - np.interp(point[0], places, heights))


def _change(mine: float, other: float, column: Column) -> float:
    return mine - other if column == "success" else mine / other - 1


def _with_interval(found: float, mine: Array, other: Array, column: Column) -> Change:
    per_draw = [_change(a, b, column) for a, b in zip(mine, other, strict=True)]
    return Change(found, *interval(np.array(per_draw)))


def _column_mean(run: Sequence[Answered], column: str) -> float:
    return _mean(getattr(one, column) for one in run)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _shares(values: Iterable[str | None]) -> dict[str, float]:
    counts = Counter(value or "none" for value in values)
    total = sum(counts.values())
    return {name: count / total for name, count in counts.most_common()}
