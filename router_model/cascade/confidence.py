"""How sure a model was of its answer: token log probabilities in, a chance in [0, 1] out. Pure.

Raw measures of the probabilities p_1..p_n that the model gave its own tokens, each in [0, 1] and rising with every p_i:

    geometric_mean    exp(mean(log p_i)), the length-normalised likelihood, which is 1 / perplexity
                      (Malinin and Gales 2021, "Uncertainty Estimation in Autoregressive Structured Prediction")
    mean_probability  mean(p_i)
    min_probability   min(p_i), the weakest token (Gupta et al. 2024, "Language Model Cascades: Token-level uncertainty
                      and beyond", compares such aggregates as deferral rules)

A raw measure orders answers; it is no chance that the answer is right. `calibrate` makes it one with a non-decreasing
map fitted on graded answers (isotonic regression, Zadrozny and Elkan 2002): `fit_isotonic`.
"""

import itertools
import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

Measure = Literal["geometric_mean", "mean_probability", "min_probability"]
Points = Sequence[Sequence[float]]
"""(raw, chance) pairs, both in [0, 1], raw rising, chance never falling; empty: the identity."""
_LEAST_LOGPROB: Final = -1000.0
"""Below this e^x is 0 in a float anyway; servers write -inf as -9999 or -3.4e38."""
_PAIR: Final = 2


class TokenConfidence:
    """Log probabilities of one answer, added token by token; every measure at every moment, in constant space."""

    __slots__ = ("_logs", "_sum", "count", "least")

    def __init__(self, logprobs: Iterable[float] = ()) -> None:
        self.count = 0
        self.least = 1.0
        self._logs = 0.0
        self._sum = 0.0
        for logprob in logprobs:
            self.add(logprob)

    def add(self, logprob: float) -> None:
        """One token: a natural logarithm. Above 0 (rounding) counts as 0.

        Raises:
            ValueError: not a number.
        """
        if math.isnan(logprob):
            raise ValueError("a log probability must be a number")
        known = min(0.0, max(_LEAST_LOGPROB, logprob))
        probability = math.exp(known)
        self.count += 1
        self._logs += known
        self._sum += probability
        self.least = min(self.least, probability)

    def raw(self, measure: Measure) -> float | None:
        """The measure of the tokens so far, in [0, 1]; None before the first."""
        if self.count == 0:
            return None
        if measure == "min_probability":
            return self.least
        if measure == "mean_probability":
            return min(1.0, self._sum / self.count)
        return min(1.0, math.exp(self._logs / self.count))


def calibrate(raw: float, points: Points = ()) -> float:
    """The chance in [0, 1] that `points` gives a raw measure: linear between points, constant outside them."""
    if not points:
        return min(1.0, max(0.0, raw))
    below = [point for point in points if point[0] <= raw]
    above = [point for point in points if point[0] > raw]
    if not below:
        return above[0][1]
    if not above:
        return below[-1][1]
    (left, low), (right, high) = below[-1], above[0]
    found = low + (high - low) * (raw - left) / (right - left)
    return min(high, max(low, found))  # the division may round beyond an end


def are_points_valid(points: Points) -> bool:
    """Whether `points` is a map that `calibrate` can use."""
    if not all(len(point) == _PAIR and all(0 <= value <= 1 for value in point) for point in points):
        return False
    return all(
        left[0] < right[0] and left[1] <= right[1] for left, right in itertools.pairwise(points)
    )


def fit_isotonic(raws: Sequence[float], grades: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """The non-decreasing map nearest to the grades in squares, for `calibrate`: one point for each level, at the
    mean raw value of the answers that share it. Pool-adjacent-violators; equal raw values are pooled first.

    `raws` and `grades` (0 wrong to 1 right) belong together, one pair for each answer.
    """
    ordered = sorted(zip(raws, grades, strict=True))
    blocks: list[list[float]] = []  # answers, sum of raws, sum of grades
    for raw, same in itertools.groupby(ordered, key=operator.itemgetter(0)):
        found = [grade for _, grade in same]
        blocks.append([len(found), raw * len(found), sum(found)])
        while len(blocks) > 1 and _level(blocks[-2]) >= _level(blocks[-1]):
            last = blocks.pop()
            blocks[-1] = [one + other for one, other in zip(blocks[-1], last, strict=True)]
    return tuple((block[1] / block[0], _level(block)) for block in blocks)


def _level(block: list[float]) -> float:
    return block[2] / block[0]


def read_logprobs(logprobs: Any) -> list[float] | None:
    """The log probabilities of the tokens in a choice's or chunk's `logprobs` object (chat: `content`, completions:
    `token_logprobs`). None: there are none, or one of them is no number; what a server says is not trusted.
    """
    if not isinstance(logprobs, dict):
        return None
    found: Any = logprobs.get("token_logprobs")
    content = logprobs.get("content")
    if isinstance(content, list):
        found = [entry.get("logprob") if isinstance(entry, dict) else None for entry in content]
    if not isinstance(found, list) or not found:
        return None
    return list(found) if all(_is_logprob(value) for value in found) else None


def _is_logprob(value: Any) -> bool:
    return type(value) in {int, float} and not math.isnan(value)
