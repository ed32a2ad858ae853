"""Heads for the complexity class, learned from labelled prompts and added to existing weights.

Needs no torch. Outcomes show which questions of a benchmark are harder than others, but not how
much work a greeting or a letter takes. That needs some hundred labelled prompts.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from router_model.classifier import weights
from router_model.classifier.heads import CLASSES
from router_model.classifier.keyword_rules import RouteClass
from router_model.training import weight_files
from router_model.training.add_models import thresholds_of
from router_model.training.calibration import ridge_logistic
from router_model.training.dataset import TooLittleData
from router_model.training.model_card import model_card
from router_model.training.weights_directory import CARD

Floats = npt.NDArray[np.float64]
RIDGE: Final = 0.1
"""Of standardised inputs, each divided by the root of their number; by cross-validation on everyday prompts."""
LEAST_KNOWN_WORDS: Final = 0.7
"""Share of a prompt's words that the vocabulary must hold: of everyday prompts in English nearly all have it, of
made-up words and other languages hardly any."""
LEAST_PROMPTS: Final = 30
FOLDS: Final = 8


class LabelledPrompt(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt and the class that it should get."""

    prompt: Annotated[str, msgspec.Meta(min_length=1)]
    label: RouteClass = msgspec.field(name="class")


class BadLabels(Exception):
    """A file of labelled prompts cannot be used; the message says where and why."""


class StageFit(msgspec.Struct, frozen=True, kw_only=True):
    """Of one stage: the share of prompts classed right by heads that did not see them (`FOLDS` folds)."""

    stage: str
    accuracy: float


class ClassesLearned(msgspec.Struct, frozen=True, kw_only=True):
    prompts: int
    stages: tuple[StageFit, ...]


def read_labelled(path: Path) -> tuple[LabelledPrompt, ...]:
    """One JSON object a line: `{"prompt": ..., "class": "low" | "medium" | "high"}`.

    Raises:
        BadLabels: the file cannot be read, or a line is something else.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise BadLabels(f"cannot read {path}: {error.strerror}") from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(msgspec.json.decode(line, type=LabelledPrompt))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise BadLabels(f"{path}, line {number}: {error}") from error
    return tuple(found)


def learn_classes(
    base: Path,
    labelled: Sequence[LabelledPrompt],
    out: Path,
    *,
    told: Callable[[float], None] = lambda _: None,
) -> ClassesLearned:
    """Writes the weights of `base` with complexity heads learned from labelled prompts; all else stays as it is.

    Raises:
        WeightsUnusable: `base` cannot be used.
        TooLittleData: too few prompts, or a class without any.
    """
    _check_enough(labelled)
    manifest = weights.read_manifest(base)
    linear, encoder = weights.load_stages(
        base, manifest, has_encoder=manifest.encoder_threshold is not None
    )
    ours, theirs = [], []
    for number, each in enumerate(labelled):
        latent = linear.read(each.prompt).latent
        ours.append(latent)
        if encoder is not None:
            theirs.append(np.concatenate((encoder.pooled(each.prompt), latent)))
        told((number + 1) / len(labelled))
    classes = np.array([CLASSES.index(each.label) for each in labelled])
    files = {name: weights.verify_files(base, name, manifest) for name in manifest.files}
    fits = []
    for file, stage, seen in (
        (weights.LINEAR, "linear", ours),
        (weights.ENCODER, "encoder", theirs),
    ):
        if seen:
            inputs = np.stack(seen).astype(np.float64)
            weight, bias = fitted(inputs, classes)
            held = weights.load_arrays(base, file, manifest)
            held[weights.COMPLEXITY_WEIGHT] = weight.astype(np.float32)
            held[weights.COMPLEXITY_BIAS] = bias.astype(np.float32)
            files[file] = weight_files.packed(held)
            fits.append(StageFit(stage=stage, accuracy=round(cross_validated(inputs, classes), 3)))
    learned = ClassesLearned(prompts=len(labelled), stages=tuple(fits))
    training = {**manifest.training, "classes": _described(labelled, learned)}
    if CARD in files and "data" in training:
        hashes = {name: _sha256(raw) for name, raw in files.items() if name != CARD}
        files[CARD] = model_card(training, hashes).encode()
    thresholds = thresholds_of(manifest) | {"least_known_words": LEAST_KNOWN_WORDS}
    weight_files.write_weights(out, files, thresholds, training)
    return learned


def fitted(inputs: Floats, classes: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Weight [3, K] and bias [3] over inputs [N, K]: one ridge logistic regression a class against the others.

    Along the principal directions of the inputs, of which there are no more than prompts: the same result, in a
    fraction of the time.
    """
    mean = inputs.mean(axis=0)
    gain = 1 / ((inputs.std(axis=0) + 1e-6) * np.sqrt(inputs.shape[1]))
    left, sizes, directions = np.linalg.svd((inputs - mean) * gain, full_matrices=False)
    x = np.hstack([left * sizes, np.ones((len(inputs), 1))])
    ridge = np.full(x.shape[1], RIDGE)
    ridge[-1] = 1e-3
    found = np.stack(
        [
            ridge_logistic(
                x, (classes == number).astype(np.float64), prior=np.zeros_like(ridge), ridge=ridge
            )
            for number in range(len(CLASSES))
        ]
    )
    weight = (found[:, :-1] @ directions) * gain
    return weight, found[:, -1] - weight @ mean


def cross_validated(inputs: Floats, classes: npt.NDArray[np.int64]) -> float:
    """Share of prompts whose class heads find that were fitted without them."""
    order = np.random.default_rng(0).permutation(len(inputs))
    right = 0
    for fold in range(FOLDS):
        asked = order[fold::FOLDS]
        kept = np.setdiff1d(order, asked)
        weight, bias = fitted(inputs[kept], classes[kept])
        right += int(((inputs[asked] @ weight.T + bias).argmax(axis=1) == classes[asked]).sum())
    return right / len(inputs)


def digest_of(labelled: Sequence[LabelledPrompt]) -> str:
    """SHA-256 over prompts and labels, in any order."""
    text = "\0".join(sorted(f"{each.label} {each.prompt}" for each in labelled))
    return _sha256(text.encode("utf-8", "surrogatepass"))


def _check_enough(labelled: Sequence[LabelledPrompt]) -> None:
    missing = [name for name in CLASSES if not any(each.label == name for each in labelled)]
    if missing:
        raise TooLittleData(f"no prompt is labelled {' or '.join(missing)}")
    if len(labelled) < LEAST_PROMPTS:
        raise TooLittleData(f"{len(labelled)} labelled prompts; {LEAST_PROMPTS} are needed")


def _described(labelled: Sequence[LabelledPrompt], learned: ClassesLearned) -> dict[str, Any]:
    return {
        "prompts": learned.prompts,
        "sha256": digest_of(labelled),
        "cross_validated": {each.stage: each.accuracy for each in learned.stages},
    }


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
