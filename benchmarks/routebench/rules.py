"""Routers that learn nothing of the text: random, the keyword rule, prompt length, LiteLLM's complexity router.

Each is one number for a prompt. Between two models that number is used as it is. In a pool it is turned into chances of
success by the mean of the training questions with a like number.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.routebench.questions import Questions
from events.names import Operation
from router_model.classifier.features import extract_features
from router_model.classifier.keyword_rules import TIER_OF, Classifier, KeywordClassifier

Array = NDArray[np.float64]
BINS: Final = 10
MIN_IN_BIN: Final = 20


class RuleRouter:
    """A router by one number for a prompt, higher for harder."""

    is_honest = True

    def __init__(self, name: str, number: Callable[[str], float]) -> None:
        self.name = name
        self._number = number
        self._edges: Array = np.empty(0)
        self._rates: dict[str, Array] = {}

    def fit(self, train: Questions) -> None:
        numbers = self._numbers(train.prompts)
        self._edges = bin_edges(numbers)
        place = np.searchsorted(self._edges, numbers, side="right")
        self._rates = {
            model: _smoothed_means(train.scores[:, column], place, len(self._edges) + 1)
            for column, model in enumerate(train.models)
        }

    def pair_scores(self, prompts: Sequence[str], weak: str, strong: str) -> Array:
        return self._numbers(prompts)

    def success(self, prompts: Sequence[str], models: Sequence[str]) -> Array:
        place = np.searchsorted(self._edges, self._numbers(prompts), side="right")
        return np.stack([self._rates[model][place] for model in models], axis=1)

    def _numbers(self, prompts: Sequence[str]) -> Array:
        return np.array([self._number(prompt) for prompt in prompts], dtype=float)


def bin_edges(numbers: Array) -> Array:
    """Edges between at most `BINS` bins of like size; few distinct numbers get a bin each."""
    found = np.unique(numbers)
    if len(found) <= BINS:
        return (found[1:] + found[:-1]) / 2
    return np.unique(np.quantile(numbers, np.arange(1, BINS) / BINS))


def _smoothed_means(scores: Array, place: NDArray[np.intp], bins: int) -> Array:
    """Mean of each bin, drawn to the mean of all as if that had been seen `MIN_IN_BIN` times."""
    sums = np.bincount(place, weights=scores, minlength=bins)
    counts = np.bincount(place, minlength=bins)
    return (sums + MIN_IN_BIN * scores.mean()) / (counts + MIN_IN_BIN)


def random_router() -> RuleRouter:
    """No preference: ties are broken at random."""
    return RuleRouter("random", lambda _: 0.0)


def length_router() -> RuleRouter:
    return RuleRouter("prompt length", lambda prompt: float(len(prompt)))


def keyword_router(classifier: Classifier | None = None) -> RuleRouter:
    """The paper's keyword rule as the product has it: low, medium, high are 0, 1, 2."""
    rule = classifier or KeywordClassifier()
    classes = tuple(TIER_OF)

    def number(prompt: str) -> float:
        body = {"messages": [{"role": "user", "content": prompt}]}
        return float(
            classes.index(rule.classify(extract_features(Operation.CHAT, body)).route_class)
        )

    return RuleRouter("keyword", number)
