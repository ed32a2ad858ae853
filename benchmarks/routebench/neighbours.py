"""k nearest training questions by MiniLM embedding; the chance of a model is its mean score on them."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.routebench.questions import Questions

Array = NDArray[np.float64]
NEIGHBOURS: Final = 50
_CHUNK: Final = 512


class NeighbourRouter:
    """`embed` gives unit vectors, [n, dimensions]."""

    name = "kNN MiniLM"
    is_honest = True

    def __init__(self, embed: Callable[[Sequence[str]], NDArray[np.float32]]) -> None:
        self._embed = embed
        self._seen = np.empty((0, 0), dtype=np.float32)
        self._scores: Array = np.empty((0, 0))
        self._columns: dict[str, int] = {}

    def fit(self, train: Questions) -> None:
        self._seen = self._embed(train.prompts)
        self._scores = train.scores
        self._columns = {model: column for column, model in enumerate(train.models)}

    def pair_scores(self, prompts: Sequence[str], weak: str, strong: str) -> Array:
        chances = self.success(prompts, (weak, strong))
        return chances[:, 1] - chances[:, 0]

    def success(self, prompts: Sequence[str], models: Sequence[str]) -> Array:
        wanted = self._embed(prompts)
        near = min(NEIGHBOURS, len(self._seen))
        means = [
            self._scores[_nearest(self._seen, wanted[start : start + _CHUNK], near)].mean(axis=1)
            for start in range(0, len(wanted), _CHUNK)
        ]
        return np.concatenate(means)[:, [self._columns[model] for model in models]]


def _nearest(seen: NDArray[np.float32], wanted: NDArray[np.float32], near: int) -> NDArray[np.intp]:
    return np.argpartition(-(wanted @ seen.T), near - 1, axis=1)[:, :near]
