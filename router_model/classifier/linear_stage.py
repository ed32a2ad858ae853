"""The linear stage: terms and numbers of a prompt to a latent vector, in numpy, well under a millisecond."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from router_model.classifier.heads import Array, ComplexityHead, Heads, LengthHead, OutlierGate
from router_model.classifier.prompt_terms import count_terms, extract_numbers

CLIP: Final = 4.0
"""Standardised numbers are cut to this many standard deviations."""
_UNKNOWN: Final = -1


class LinearReading(NamedTuple):
    """What the stage sees of a text: the latent [K + F], the share of its terms (words and pairs of them) that are in
    the vocabulary, and the share of its words.
    """

    latent: Array
    coverage: float
    known_words: float


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
    complexity: ComplexityHead | None = None
    least_known_words: float = 0.0
    """Share of a prompt's words that must be known for its class to be judged by a complexity head."""

    def read(self, text: str) -> LinearReading:
        counts = count_terms(text)
        found = np.fromiter(
            map(self.vocabulary.get, counts, itertools.repeat(_UNKNOWN)), np.intp, len(counts)
        )
        known = found != _UNKNOWN
        standard = (extract_numbers(text) - self.mean) / self.deviation
        np.clip(standard, -CLIP, CLIP, out=standard)
        latent = standard @ self.mixing + self.offset
        rows = found[known]
        if len(rows):
            often = np.fromiter(counts.values(), np.float64, len(counts))[known]
            weights = (1.0 + np.log(often)).astype(np.float32)
            weights *= self.idf[rows]
            weights /= math.sqrt(float(weights @ weights))
            latent += (weights @ self.table[rows].astype(np.float32)) * self.scale
        # Words come before pairs.
        words = next((place for place, term in enumerate(counts) if " " in term), len(counts))
        return LinearReading(
            latent=np.concatenate((latent, standard)),
            coverage=len(rows) / max(1, len(counts)),
            known_words=int(known[:words].sum()) / max(1, words),
        )

    def is_outlier(self, latent: Array, coverage: float) -> bool:
        """Whether the prompt is unlike those whose outcomes were learned."""
        return coverage < self.least_coverage or self.gate.is_outlier(latent[: len(self.offset)])

    def can_class(self, known_words: float) -> bool:
        """Whether the class of a prompt can be judged, be it an outlier or not."""
        return self.complexity is not None and known_words >= self.least_known_words
