"""The learned classifier: linear stage, encoder stage, or both (hybrid: the encoder where the linear stage is unsure).

A prompt unlike those whose outcomes were learned gets no chances: priors stand in. Its class is judged all the same
where its words are known, by heads that have learned from labelled prompts; else the classifier abstains, and the class
is the fallback's.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal, NamedTuple

import numpy as np

from events.openai.operations import OPERATIONS
from router_model.classifier.encoder_stage import EncoderStage
from router_model.classifier.features import PromptFeatures
from router_model.classifier.heads import CLASSES, Array, ComplexityHead, Heads
from router_model.classifier.keyword_rules import Classification, Classifier, RouteClass
from router_model.classifier.linear_stage import LinearStage

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
        band: hybrid: the encoder is asked where the two likeliest classes of the linear stage's outcomes are closer
            than this, and where it gives no chances.
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
        """Reasons: `linear`, `encoder`, `abstained` (unlike anything learned from), `unusable` (a stage gave
        numbers that cannot be right).
        """
        if not OPERATIONS[features.operation].is_generative or not features.text:
            return self._fallback.classify(features, models)
        read = self._linear.read(features.text)
        if not _is_usable(read.latent):
            return self._abstained(features, "unusable")
        can_class = self._linear.can_class(read.known_words)
        has_chances = not self._linear.is_outlier(read.latent, read.coverage)
        if not (can_class or has_chances):
            return self._abstained(features, "abstained")
        judged = _Judged(
            "linear", self._linear.heads, self._linear.complexity, read.latent, read.latent
        )
        if self._encoder is not None and len(models) != 1 and self._is_unsure(judged, has_chances):
            pooled = self._encoder.pooled(features.text)
            if not _is_usable(pooled):
                return self._abstained(features, "unusable")
            has_chances = has_chances and not self._encoder.gate.is_outlier(pooled)
            if not (can_class or has_chances):
                return self._abstained(features, "abstained")
            seen = np.concatenate((pooled, read.latent))
            judged = _Judged(
                "encoder", self._encoder.heads, self._encoder.complexity, seen, read.latent
            )
        if not has_chances:
            return Classification(judged.route_class, judged.stage)
        return self._found(judged, models)

    def _is_unsure(self, judged: "_Judged", has_chances: bool) -> bool:  # noqa: FBT001
        """Whether the linear stage leaves the prompt to the encoder."""
        return not has_chances or _margin(judged.heads.class_chances(judged.seen)) < self._band

    def _found(self, judged: "_Judged", models: Sequence[str]) -> Classification:
        usual, tokens = self._linear.lengths.tokens(judged.latent, models)
        return Classification(
            route_class=judged.route_class,
            reason=judged.stage,
            success=judged.heads.success(judged.seen, models),
            tier_success=judged.heads.tier_success(judged.seen),
            answer_tokens=tokens,
            typical_answer_tokens=usual,
        )

    def _abstained(self, features: PromptFeatures, reason: str) -> Classification:
        return replace(self._fallback.classify(features), reason=reason)


class _Judged(NamedTuple):
    """The stage that decides, its heads, what it sees of the prompt, and what the linear stage sees."""

    stage: str
    heads: Heads
    complexity: ComplexityHead | None
    seen: Array
    latent: Array

    @property
    def route_class(self) -> RouteClass:
        """By the head that learned from labels, where there is one."""
        if self.complexity is not None:
            return self.complexity.route_class(self.seen)
        return CLASSES[int(self.heads.class_chances(self.seen).argmax())]


def _margin(chances: Array) -> float:
    second, first = np.partition(chances, -2)[-2:]
    return float(first - second)


def _is_usable(latent: Array) -> bool:
    return bool(np.abs(latent).max() < LARGEST)
