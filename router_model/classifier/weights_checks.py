"""Whether the arrays of loaded weights fit each other: found at start, not in the middle of a decision."""

from typing import Final

import numpy as np

from router_model.classifier.encoder_stage import EncoderStage
from router_model.classifier.heads import CLASSES, Array, ComplexityHead, Heads
from router_model.classifier.linear_stage import LinearStage
from router_model.classifier.prompt_terms import NUMBER_NAMES

TRIED: Final = "What is the sum of two and three?"


def check_linear(stage: LinearStage) -> None:
    """The stage's arrays have the shapes of `LinearStage`.

    Raises:
        ValueError: one has not; the message names it.
    """
    rows, latent, count = len(stage.vocabulary), stage.offset.size, len(NUMBER_NAMES)
    _shape("offset", stage.offset, latent)
    _shape("idf", stage.idf, rows)
    _shape("table", stage.table, rows, latent)
    _shape("scale", stage.scale, latent)
    _shape("mean", stage.mean, count)
    _shape("deviation", stage.deviation, count)
    _shape("mixing", stage.mixing, count, latent)
    _shape("length_weight", stage.lengths.weight, latent + count)
    _shape("centroids", stage.gate.centroids, None, latent)
    if not (stage.deviation > 0).all():
        raise ValueError("deviation must be above 0")
    _check_heads(stage.heads, latent + count)
    _check_complexity(stage.complexity, latent + count)


def check_encoder(encoder: EncoderStage, linear: LinearStage) -> None:
    """The network runs, and what it gives fits the heads. Also warms it up.

    Raises:
        ValueError: one does not; the message names it.
    """
    try:
        pooled = encoder.pooled(TRIED)
    except Exception as error:  # neither onnxruntime nor tokenizers has a public base
        raise ValueError(f"the network fails on a plain question: {error}") from error
    if pooled.ndim != 1 or not np.isfinite(pooled).all():
        raise ValueError("the network gives no finite vector for a plain question")
    _shape("centroids", encoder.gate.centroids, None, pooled.size)
    seen = pooled.size + linear.offset.size + len(NUMBER_NAMES)
    _check_heads(encoder.heads, seen)
    _check_complexity(encoder.complexity, seen)


def _check_heads(heads: Heads, seen: int) -> None:
    _shape("weight", heads.weight, len(heads.rows), seen)
    _shape("bias", heads.bias, len(heads.rows))
    _shape("class_weight", heads.class_weight, len(CLASSES), seen)
    _shape("class_bias", heads.class_bias, len(CLASSES))


def _check_complexity(head: ComplexityHead | None, seen: int) -> None:
    if head is not None:
        _shape("complexity_weight", head.weight, len(CLASSES), seen)
        _shape("complexity_bias", head.bias, len(CLASSES))


def _shape(name: str, array: Array | np.ndarray, *wanted: int | None) -> None:
    """None: at least one, any number."""
    fits = array.ndim == len(wanted) and all(
        size == want if want is not None else size > 0
        for size, want in zip(array.shape, wanted, strict=True)
    )
    if not fits:
        raise ValueError(f"{name} has the shape {array.shape}, not {wanted}")
