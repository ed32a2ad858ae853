"""The linear stage: terms and numbers of a prompt to a latent vector, in numpy, well under a millisecond."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from router_model.prompt_terms import numbers, term_counts
from router_model.success_heads import Array, Heads, LengthHead, OutlierGate

CLIP: Final = 4.0
"""Standardised numbers are cut to this many standard deviations."""
_UNKNOWN: Final = -1


@dataclass(frozen=True, slots=True)
class LinearStage:
    """Latent = table[terms] weighted by tf-idf (unit length) + numbers @ mixing + offset.

    `vocabulary` maps a term to its row of `table` [V, K] (int8, each column times `scale` [K]); `idf` [V]. `mean`,
    `deviation` [F] standardise the numbers, `mixing` [F, K] and `offset` [K] bring them into the latent. The latent
    that heads see is [z, standardised numbers]: K + F numbers.
    """

    vocabulary: Mapping[str, int]
    idf: Array
    table: npt.NDArray[np.int8]
    scale: Array
    mean: Array
    deviation: Array
    mixing: Array
    offset: Array
    heads: Heads
    lengths: LengthHead
    gate: OutlierGate
    least_coverage: float = 0.0
    """Share of a prompt's terms that must be known; below it the prompt is an outlier."""

    def latent(self, text: str) -> tuple[Array, float]:
        """The latent [K + F], and the share of the text's terms that are in the vocabulary."""
        counts = term_counts(text)
        found = np.fromiter(
            map(self.vocabulary.get, counts, itertools.repeat(_UNKNOWN)), np.intp, len(counts)
        )
        known = found != _UNKNOWN
        standard = (numbers(text) - self.mean) / self.deviation
        np.clip(standard, -CLIP, CLIP, out=standard)
        latent = standard @ self.mixing + self.offset
        rows = found[known]
        if len(rows):
            often = np.fromiter(counts.values(), np.float64, len(counts))[known]
            weights = (1.0 + np.log(often)).astype(np.float32)
            weights *= self.idf[rows]
            weights /= math.sqrt(float(weights @ weights))
            latent += (weights @ self.table[rows].astype(np.float32)) * self.scale
        return np.concatenate((latent, standard)), len(rows) / max(1, len(counts))

    def is_outlier(self, latent: Array, coverage: float) -> bool:
        """Whether the prompt is unlike what was trained on."""
        return coverage < self.least_coverage or self.gate.is_outlier(latent[: len(self.offset)])
