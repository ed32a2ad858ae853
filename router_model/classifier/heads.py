"""Heads over a latent vector of a prompt: chance of success by model and tier, complexity class, answer length.

Every head is one row of a matrix over the same latent (a shared latent space, as in IRT-Router and UniRoute), with
its calibration folded in: a new model is one more row. Pure numpy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from router_model.catalogue.model import TIERS, Tier
from router_model.classifier.keyword_rules import RouteClass

Array = npt.NDArray[np.float32]
CLASSES: Final[tuple[RouteClass, ...]] = ("low", "medium", "high")
TIER_PREFIX: Final = "tier:"
"""Rows of this prefix stand for the average model of a tier."""
_LIMIT: Final = 30.0


@dataclass(frozen=True, slots=True)
class Heads:
    """Heads of one stage over a latent of K numbers.

    `names` are the M learned names of `weight` [M, K] and `bias` [M] (calibrated log odds of success). `class_weight`
    [3, K] and `class_bias` [3] give the logits of `CLASSES`.
    """

    names: tuple[str, ...]
    weight: Array
    bias: Array
    class_weight: Array
    class_bias: Array
    rows: Mapping[str, int] = field(init=False)
    tiers: Mapping[Tier, int] = field(init=False)

    def __post_init__(self) -> None:
        rows = {name: row for row, name in enumerate(self.names)}
        tiers = {tier: rows[TIER_PREFIX + tier] for tier in TIERS if TIER_PREFIX + tier in rows}
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "tiers", tiers)

    def success(self, latent: Array, models: Sequence[str]) -> dict[str, float]:
        """Chance in [0, 1] by model, for those of `models` that are known. `latent`: [K]."""
        known = [name for name in models if name in self.rows]
        if not known:
            return {}
        return dict(zip(known, self._chances(latent, [self.rows[n] for n in known]), strict=True))

    def tier_success(self, latent: Array) -> dict[Tier, float]:
        """Chance in [0, 1] of an average model of each tier. `latent`: [K]."""
        return dict(zip(self.tiers, self._chances(latent, list(self.tiers.values())), strict=True))

    def class_chances(self, latent: Array) -> Array:
        """Softmax over `CLASSES` [3]: Eq. 3 of the paper, on this latent."""
        logits = self.class_weight @ latent + self.class_bias
        raised = np.exp(logits - logits.max())
        chances: Array = raised / raised.sum()
        return chances

    def _chances(self, latent: Array, rows: list[int]) -> list[float]:
        odds = self.weight[rows] @ latent + self.bias[rows]
        chances: list[float] = (1 / (1 + np.exp(-np.clip(odds, -_LIMIT, _LIMIT)))).tolist()
        return chances


@dataclass(frozen=True, slots=True)
class ComplexityHead:
    """The class of a prompt, learned from labelled prompts: logits of `CLASSES` over what a stage sees [K].

    `class_weight` of `Heads` has learned from outcomes instead, where "high" means harder than usual questions of the
    same benchmarks: of examinations that tells something, of a greeting nothing.
    """

    weight: Array
    bias: Array

    def route_class(self, seen: Array) -> RouteClass:
        return CLASSES[int((self.weight @ seen + self.bias).argmax())]


@dataclass(frozen=True, slots=True)
class LengthHead:
    """Expected answer tokens: exp(latent . weight + bias + what the model adds). `weight`: [K]."""

    weight: Array
    bias: float
    verbosity: Mapping[str, float]
    """Log factor by learned name: how much longer its answers are than usual."""

    def tokens(self, latent: Array, models: Sequence[str]) -> tuple[float, dict[str, float]]:
        """Tokens of a usual answer, and by model for those of `models` that are known."""
        usual = float(self.weight @ latent) + self.bias
        known = {name: usual + self.verbosity[name] for name in models if name in self.verbosity}
        return _tokens(usual), {name: _tokens(log) for name, log in known.items()}


@dataclass(frozen=True, slots=True)
class OutlierGate:
    """Tells prompts unlike anything trained on: none of the centroids [C, K] (unit length) is near enough."""

    centroids: Array
    threshold: float
    """Least cosine similarity to the nearest centroid."""

    def is_outlier(self, latent: Array) -> bool:
        length = float(np.linalg.norm(latent))
        if not length > 0:
            return True
        return float((self.centroids @ latent).max()) < self.threshold * length


def _tokens(log: float) -> float:
    return float(np.exp(min(max(log, 0.0), 9.0)))
