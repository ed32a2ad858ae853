"""The learned classifier: linear stage, encoder stage, or both (hybrid: the encoder where the linear stage is unsure).

Off the training distribution it abstains: the class is the keyword rule's, and priors stand in for chances.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal

import numpy as np

from events.types import Operation
from router_model.classifier import Classification, Classifier
from router_model.encoder import EncoderStage
from router_model.features import PromptFeatures
from router_model.linear import LinearStage
from router_model.success_heads import CLASSES, Array, Heads

Mode = Literal["linear", "transformer", "hybrid"]
MODES: Final[tuple[Mode, ...]] = ("linear", "transformer", "hybrid")
LARGEST: Final = 1e6
"""A latent beyond this, or not a number, comes from a broken stage; sane ones stay below a hundred or so."""


class LearnedClassifier:
    """Pure for given weights; thread-safe.

    Args:
        linear: the cheap stage; always runs.
        encoder: the second stage; None only with `mode` linear.
        fallback: finds the class where this abstains.
        mode: which stages decide. The encoder is never asked where one model alone may answer: there is no choice.
        band: hybrid: the encoder is asked where the two likeliest classes of the linear stage are closer than this.
    """

    def __init__(
        self,
        linear: LinearStage,
        encoder: EncoderStage | None,
        fallback: Classifier,
        *,
        mode: Mode,
        band: float,
    ) -> None:
        if encoder is None and mode != "linear":
            raise ValueError(f"mode {mode} needs an encoder")
        self._linear = linear
        self._encoder = encoder if mode != "linear" else None
        self._fallback = fallback
        self._band = 2.0 if mode == "transformer" else band

    def classify(self, features: PromptFeatures, models: Sequence[str] = ()) -> Classification:
        """Reasons: `linear`, `encoder`, `abstained` (unlike anything trained on), `unusable` (a stage gave
        numbers that cannot be right).
        """
        if features.operation is Operation.EMBEDDINGS or not features.text:
            return self._fallback.classify(features, models)
        latent, coverage = self._linear.latent(features.text)
        if not _is_usable(latent):
            return self._abstained(features, "unusable")
        if self._linear.is_outlier(latent, coverage):
            return self._abstained(features, "abstained")
        heads, stage = self._linear.heads, "linear"
        chances = heads.class_chances(latent)
        seen = latent
        if self._encoder is not None and len(models) != 1 and _margin(chances) < self._band:
            pooled = self._encoder.pooled(features.text)
            if not _is_usable(pooled):
                return self._abstained(features, "unusable")
            if self._encoder.gate.is_outlier(pooled):
                return self._abstained(features, "abstained")
            heads, stage = self._encoder.heads, "encoder"
            seen = np.concatenate((pooled, latent))
            chances = heads.class_chances(seen)
        return self._found(heads, seen, latent, chances, stage, models)

    def _found(
        self,
        heads: Heads,
        seen: Array,
        latent: Array,
        chances: Array,
        stage: str,
        models: Sequence[str],
    ) -> Classification:
        usual, tokens = self._linear.lengths.tokens(latent, models)
        return Classification(
            route_class=CLASSES[int(chances.argmax())],
            reason=stage,
            success=heads.success(seen, models),
            tier_success=heads.tier_success(seen),
            answer_tokens=tokens,
            typical_answer_tokens=usual,
        )

    def _abstained(self, features: PromptFeatures, reason: str) -> Classification:
        return replace(self._fallback.classify(features), reason=reason)


def _margin(chances: Array) -> float:
    second, first = np.partition(chances, -2)[-2:]
    return float(first - second)


def _is_usable(latent: Array) -> bool:
    return bool(np.abs(latent).max() < LARGEST)
