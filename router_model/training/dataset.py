"""Outcome rows as arrays to train on: one line a distinct prompt, one column a model (and one a tier)."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from router_model.catalogue.model import TIERS
from router_model.classifier.heads import TIER_PREFIX
from router_model.replay.outcome_dataset import EVALUATION_ONLY, OutcomeRow, assign_part
from router_model.training.model_tiers import tier_of

Floats = npt.NDArray[np.float32]
CHARS_A_TOKEN: Final = 4.0
MIN_LABELS: Final = 40
"""A model with fewer labelled training prompts gets no head: it stays with its tier."""
PRIOR_LABELS: Final = 2.0
LEAST_PROMPTS: Final = 20
"""Distinct training prompts below which nothing is learned."""
LEAST_TUNE: Final = 20
"""Prompts that calibration wants: a smaller tune part is filled up with up to a quarter of the training part."""


class TooLittleData(Exception):
    """There is not enough to learn from; the message says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """N prompts, M columns: the models, then one `tier:` column a tier (mean of its models' outcomes).

    `labels` [N, M] scores in [0, 1], NaN where not known. `log_tokens` [N, M] log of answer tokens, or NaN.
    `classes` [N] 0 low, 1 medium, 2 high: terciles of how much worse than usual the models did (training part). `parts`
    [N] 'train', 'tune' or 'dev'.
    """

    prompts: tuple[str, ...]
    models: tuple[str, ...]
    labels: Floats
    log_tokens: Floats
    classes: npt.NDArray[np.int64]
    parts: npt.NDArray[np.str_]
    sources: tuple[str, ...]
    digest: str

    def rows_of(self, *parts: str) -> npt.NDArray[np.intp]:
        """Indices of the prompts of these parts."""
        return np.flatnonzero(np.isin(self.parts, parts))


def dataset_of(rows: Iterable[OutcomeRow], *, min_labels: int = MIN_LABELS) -> Dataset:
    """Merges rows of the same prompt (scores of one model are averaged). Sources in `EVALUATION_ONLY` are left out.

    Args:
        rows: of any number of sources.
        min_labels: labelled training prompts that a model needs.

    Raises:
        TooLittleData: no usable row, too few prompts, or no model with enough labels.
    """
    usable = [row for row in rows if row.source not in EVALUATION_ONLY and row.prompt.strip()]
    if not usable:
        raise TooLittleData(
            "there is no outcome to learn from (evaluation-only sources are left out)"
        )
    index: dict[str, int] = {}
    for row in usable:
        index.setdefault(row.prompt, len(index))
    names = _enough(usable, min_labels)
    parts = _parts(usable, index)
    labels, log_tokens = _filled(usable, index, names)
    tiers = [_tier_column(labels, names, tier) for tier in TIERS]
    present = [
        (tier, column) for tier, column in zip(TIERS, tiers, strict=True) if column is not None
    ]
    empty = np.full((len(index), len(present)), np.nan, np.float32)
    return Dataset(
        prompts=tuple(index),
        models=(*names, *(TIER_PREFIX + tier for tier, _ in present)),
        labels=np.column_stack([labels, *(column for _, column in present)]),
        log_tokens=np.column_stack([log_tokens, empty]),
        classes=_classes(labels, parts),
        parts=parts,
        sources=tuple(sorted({row.source for row in usable})),
        digest=_digest(usable, min_labels),
    )


def _parts(rows: Sequence[OutcomeRow], index: Mapping[str, int]) -> npt.NDArray[np.str_]:
    """The part of every prompt, by its question; of few questions some of the training part move to the tune part."""
    keys = {row.prompt: row.qkey for row in rows}
    part = {key: str(assign_part(key)) for key in keys.values()}
    train = sorted((key for key in part if part[key] == "train"), key=_tune_order)
    missing = LEAST_TUNE - sum(each == "tune" for each in part.values())
    for key in train[: max(0, min(missing, len(train) // 4))]:
        part[key] = "tune"
    parts = np.empty(len(index), dtype="<U5")
    for prompt, key in keys.items():
        parts[index[prompt]] = part[key]
    count = int((parts == "train").sum())
    if count < LEAST_PROMPTS or "tune" not in parts:
        raise TooLittleData(
            f"{count} distinct prompts to train on and {int((parts == 'tune').sum())} to calibrate on, of {len(index)} "
            f"in all; {LEAST_PROMPTS} and 1 are needed"
        )
    return parts


def _tune_order(key: str) -> str:
    return hashlib.sha256(f"tune:{key}".encode()).hexdigest()


def _enough(rows: Sequence[OutcomeRow], min_labels: int) -> tuple[str, ...]:
    """Models with enough labels; TooLittleData says how many the others have where there is none."""
    counts: Counter[str] = Counter()
    for row in rows:
        if assign_part(row.qkey) == "train":
            counts.update(row.outcomes.keys())
    found = tuple(sorted(name for name, count in counts.items() if count >= min_labels))
    if not found:
        most = (
            ", ".join(f"{name} {count}" for name, count in counts.most_common(3)) or "none has any"
        )
        raise TooLittleData(
            f"{sum(counts.values())} labels on training prompts; a model needs {min_labels}, and the most have: "
            f"{most}. A quarter of all prompts is kept for calibration and figures"
        )
    return found


def _filled(
    rows: Sequence[OutcomeRow], index: dict[str, int], names: Sequence[str]
) -> tuple[Floats, Floats]:
    column = {name: number for number, name in enumerate(names)}
    shape = (len(index), len(names))
    total, seen = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    log_tokens = np.full(shape, np.nan, np.float32)
    for row in rows:
        line = index[row.prompt]
        for name, score in row.outcomes.items():
            if name in column:
                total[line, column[name]] += score
                seen[line, column[name]] += 1
        for name, chars in row.out_chars.items():
            if name in column:
                log_tokens[line, column[name]] = np.log(max(1.0, chars / CHARS_A_TOKEN))
        for name, (_, out) in row.tokens.items():
            if name in column and out > 0:
                log_tokens[line, column[name]] = np.log(out)
    with np.errstate(invalid="ignore"):
        labels = np.where(seen > 0, total / seen, np.nan).astype(np.float32)
    return labels, log_tokens


def _tier_column(labels: Floats, names: Sequence[str], tier: str) -> Floats | None:
    """Mean outcome of the tier's models on each prompt; NaN where none was asked."""
    members = [number for number, name in enumerate(names) if tier_of(name) == tier]
    if not members:
        return None
    known = np.isfinite(labels[:, members])
    count = known.sum(axis=1)
    total = np.where(known, labels[:, members], 0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _classes(labels: Floats, parts: npt.NDArray[np.str_]) -> npt.NDArray[np.int64]:
    """Complexity from outcomes, not from length: how far the models fell below their own rates, shrunk to zero where
    few were asked, cut at the terciles of the training part.
    """
    train = parts == "train"
    known = np.isfinite(labels)
    rates = np.where(known[train], labels[train], 0).sum(0) / np.maximum(1, known[train].sum(0))
    surplus = np.where(known, labels - rates, 0).sum(axis=1) / (known.sum(axis=1) + PRIOR_LABELS)
    cuts = np.quantile(surplus[train], [1 / 3, 2 / 3])
    found: npt.NDArray[np.int64] = 2 - np.digitize(surplus, cuts)
    return found


def _digest(rows: Sequence[OutcomeRow], min_labels: int) -> str:
    """SHA-256 over ids, prompts and scores, in any order of rows; and over `min_labels` where it is not the usual."""
    total = 0
    if min_labels != MIN_LABELS:
        total = int.from_bytes(hashlib.sha256(f"min_labels {min_labels}".encode()).digest(), "big")
    for row in rows:
        text = f"{row.source}\0{row.id}\0{row.prompt}\0{sorted(row.outcomes.items())}"
        total ^= int.from_bytes(
            hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest(), "big"
        )
    return f"{total:064x}"


def described(dataset: Dataset) -> dict[str, Any]:
    """What describes the dataset in a manifest: counts (of models, not of tiers), sources, digest."""
    single = [not name.startswith(TIER_PREFIX) for name in dataset.models]
    return {
        "prompts": len(dataset.prompts),
        "labels": int(np.isfinite(dataset.labels[:, single]).sum()),
        "models": sum(single),
        "parts": {part: int((dataset.parts == part).sum()) for part in ("train", "tune", "dev")},
        "sources": list(dataset.sources),
        "sha256": dataset.digest,
    }
