"""What every router of the benchmark is asked, and what the benchmark tells it to learn from."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.routebench.questions import Questions

Array = NDArray[np.float64]


class Predictor(Protocol):
    """A router under test. It sees the text of a prompt and nothing else of the questions that are scored.

    `is_honest` is False for those that know more (the category, the outcome): they are shown as hints and bounds, and
    beating them is not asked for.
    """

    name: str
    is_honest: bool

    def fit(self, train: Questions) -> None:
        """Learn from the training questions of one case, forgetting what was learned before."""

    def pair_scores(self, prompts: Sequence[str], weak: str, strong: str) -> Array:
        """[n] numbers that grow with the wish for the strong model; equal numbers mean no preference."""

    def success(self, prompts: Sequence[str], models: Sequence[str]) -> Array | None:
        """[n, models] chances in [0, 1] of a good answer; None: this router cannot say."""
