"""What training found, in the form that serves: one calibrated matrix of heads a stage, in the files of `weights`."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from router_model.classifier import weights
from router_model.classifier.prompt_terms import NUMBER_NAMES, SCHEME
from router_model.training.calibration import Calibration
from router_model.training.linear_maps import Fitted
from router_model.training.vocabulary import Terms

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadRows:
    """Heads over what a stage sees [K]: `weight` [M, K], `bias` [M]; `class_weight` [3, K], `class_bias` [3]."""

    weight: Floats
    bias: Floats
    class_weight: Floats
    class_bias: Floats

    def logits(self, seen: Floats) -> Floats:
        found: Floats = seen @ self.weight.T + self.bias
        return found

    def class_logits(self, seen: Floats) -> Floats:
        found: Floats = seen @ self.class_weight.T + self.class_bias
        return found

    def calibrated(self, by: Calibration) -> "HeadRows":
        """The same heads with a calibration folded in."""
        return HeadRows(
            weight=self.weight * by.scale[:, None],
            bias=self.bias * by.scale + by.shift,
            class_weight=self.class_weight,
            class_bias=self.class_bias,
        )


def rows_on_latent(fitted: Fitted, models: int) -> HeadRows:
    """Heads of a fit over [its latent, the standardised numbers]; the numbers are in the latent already."""
    pad = np.zeros((len(fitted.weight), len(NUMBER_NAMES)), np.float32)
    whole = np.hstack([fitted.weight, pad])
    return HeadRows(
        weight=whole[:models],
        bias=fitted.bias[:models],
        class_weight=whole[models:],
        class_bias=fitted.bias[models:],
    )


def rows_on_dense(fitted: Fitted, models: int) -> HeadRows:
    """Heads of a fit without terms, over its dense input: two linear maps are one."""
    whole = fitted.weight @ fitted.mixing.T
    bias = fitted.weight @ fitted.offset + fitted.bias
    return HeadRows(
        weight=whole[:models],
        bias=bias[:models],
        class_weight=whole[models:],
        class_bias=bias[models:],
    )


def unscaled(rows: HeadRows, mean: Floats, gain: Floats) -> HeadRows:
    """Heads that were fitted on (x - mean) * gain in their first columns, as heads on x itself."""
    size = len(mean)
    weight, class_weight = rows.weight.copy(), rows.class_weight.copy()
    weight[:, :size] *= gain
    class_weight[:, :size] *= gain
    return HeadRows(
        weight=weight,
        bias=rows.bias - weight[:, :size] @ mean,
        class_weight=class_weight,
        class_bias=rows.class_bias - class_weight[:, :size] @ mean,
    )


def side_by_side(
    parts: Sequence[tuple[HeadRows, float, npt.NDArray[np.intp]]], width: int
) -> HeadRows:
    """The weighted sum of several heads, each over its own columns of what the stage sees [width]."""
    first = parts[0][0]
    weight = np.zeros((len(first.weight), width), np.float32)
    class_weight = np.zeros((3, width), np.float32)
    bias, class_bias = np.zeros_like(first.bias), np.zeros(3, np.float32)
    for rows, share, columns in parts:
        weight[:, columns] += share * rows.weight
        class_weight[:, columns] += share * rows.class_weight
        bias += share * rows.bias
        class_bias += share * rows.class_bias
    return HeadRows(weight=weight, bias=bias, class_weight=class_weight, class_bias=class_bias)


def quantised(table: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Table [V, K] as int8 with a scale [K] a column."""
    scale = np.maximum(np.abs(table).max(axis=0), 1e-9) / 127
    return np.round(table / scale).astype(np.int8), scale.astype(np.float32)


def linear_arrays(
    terms: Terms,
    fitted: Fitted,
    heads: HeadRows,
    names: Sequence[str],
    lengths: tuple[Floats, float, Mapping[str, float]],
    centroids: Floats,
) -> dict[str, Any]:
    """Contents of `linear.npz`."""
    if fitted.table is None:
        raise ValueError("the linear stage needs a fit over terms")
    table, scale = quantised(fitted.table)
    weight, bias, verbosity = lengths
    return {
        "terms": weights.pack_strings(terms.kept),
        "idf": terms.idf.astype(np.float16),
        "table": table,
        "scale": scale,
        "mean": terms.mean,
        "deviation": terms.deviation,
        "mixing": fitted.mixing,
        "offset": fitted.offset,
        "length_weight": weight,
        "length_bias": np.array([bias, *verbosity.values()], np.float32),
        "length_names": weights.pack_strings(tuple(verbosity)),
        "centroids": centroids.astype(np.float16),
        **head_arrays(heads, names),
    }


def head_arrays(heads: HeadRows, names: Sequence[str]) -> dict[str, Any]:
    """Heads as arrays of a weights file."""
    return {
        "names": weights.pack_strings(tuple(names)),
        "weight": heads.weight.astype(np.float16),
        "bias": heads.bias,
        "class_weight": heads.class_weight,
        "class_bias": heads.class_bias,
    }


def packed(arrays: Mapping[str, Any]) -> bytes:
    """Arrays as the bytes of an npz file, the same bytes every time."""
    held = io.BytesIO()
    np.savez_compressed(held, **arrays)
    return held.getvalue()


def write_weights(
    out: Path, files: Mapping[str, bytes], thresholds: Mapping[str, float], training: Any
) -> weights.Manifest:
    """Writes the files and, last, the manifest that names their hashes."""
    out.mkdir(parents=True, exist_ok=True)
    hashes = {name: hashlib.sha256(raw).hexdigest() for name, raw in sorted(files.items())}
    version = hashlib.sha256("".join(hashes.values()).encode()).hexdigest()[:12]
    manifest = weights.Manifest(
        format=weights.FORMAT,
        scheme=SCHEME,
        files=hashes,
        band=thresholds["band"],
        least_coverage=thresholds["least_coverage"],
        linear_threshold=thresholds["linear"],
        encoder_threshold=thresholds.get("encoder"),
        least_known_words=thresholds.get("least_known_words", 0.0),
        version=version,
        training=training,
    )
    for name, raw in files.items():
        (out / name).write_bytes(raw)
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    (out / weights.MANIFEST).write_bytes(text + b"\n")
    return manifest
