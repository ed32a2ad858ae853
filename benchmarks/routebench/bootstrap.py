"""Paired bootstrap over questions: is one router better than another on the same questions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Verdict = Literal["above", "tie", "below"]


@dataclass(frozen=True, slots=True)
class Difference:
    """Ours minus the other: the value found and the middle 95 % of the draws."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> Verdict:
        if self.low > 0:
            return "above"
        return "below" if self.high < 0 else "tie"


def draw_counts(questions: int, draws: int, seed: int) -> Array:
    """How often each question occurs in each draw with replacement, [draws, questions]."""
    even = np.full(questions, 1 / questions)
    return np.random.default_rng(seed).multinomial(questions, even, size=draws).astype(float)


def row_weights(counts: Array, drawn: Sequence[str], qkeys: Sequence[str]) -> Array:
    """Weights of rows [draws, rows], given `counts` of the questions `drawn`: copies of one question go together."""
    place = {qkey: index for index, qkey in enumerate(drawn)}
    return counts[:, [place[qkey] for qkey in qkeys]]


def interval(draws: Array) -> tuple[float, float]:
    """The middle 95 %, draws without a value left out."""
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return float(low), float(high)


def difference(ours: float, other: float, our_draws: Array, other_draws: Array) -> Difference:
    return Difference(ours - other, *interval(our_draws - other_draws))
