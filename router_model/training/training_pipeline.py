"""The whole of training, stage by stage; what took long is kept in a work directory, not done again. Needs torch.

Terms and numbers; a teacher of small cross-fitted nets on the encoder as it starts; passes of the encoder over the
training part; heads over its states, the linear stage as the encoder's student, and export (`weights_directory`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from router_model.classifier.weights import NETWORK, TOKENIZER, Manifest
from router_model.training import encoder_torch, onnx_export, weight_files
from router_model.training.cross_fitting import cross_fitted
from router_model.training.dataset import Dataset
from router_model.training.encoder_torch import EncoderRecipe, Training
from router_model.training.encoder_widening import widened
from router_model.training.head_training import FitRecipe, fit, use_threads
from router_model.training.linear_maps import Inputs
from router_model.training.vocabulary import Terms, terms_of
from router_model.training.weight_files import HeadRows
from router_model.training.weights_directory import EncoderParts, Ending, finish

Floats = npt.NDArray[np.float32]
MARK: Final = "training.json"
"""In the work directory: whose it is."""
PARITY: Final = "parity.npz"
"""In the work directory: what torch makes of a few prompts, to hold other runtimes of the network against."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Every size and rate of a training; the defaults made the shipped weights.

    `vocabulary` terms at most; `folds` of the teacher; `encoder_share` of prompts like the training ones goes to the
    encoder in hybrid mode; `seeds` nets are averaged in the encoder's heads; `encoder_teaches`: the part of the teacher
    that is the encoder after its first pass; `layers` of the encoder it starts from that are kept (None: all); `widen`:
    times its width (2: from MiniLM to DistilBERT's size).
    """

    seed: int = 0
    vocabulary: int = 40_000
    folds: int = 4
    encoder_share: float = 0.35
    seeds: int = 3
    encoder_teaches: float = 0.3
    layers: int | None = 5
    widen: int = 1
    encoder: EncoderRecipe = field(default_factory=EncoderRecipe)
    terms_net: FitRecipe = field(default_factory=lambda: FitRecipe(latent=32))
    states_net: FitRecipe = field(default_factory=lambda: FitRecipe(epochs=6))
    both_net: FitRecipe = field(default_factory=FitRecipe)
    heads_nets: tuple[FitRecipe, ...] = (
        FitRecipe(epochs=3),
        FitRecipe(epochs=5, latent=200, evenness=0.2),
    )
    student: FitRecipe = field(
        default_factory=lambda: FitRecipe(latent=96, epochs=6, dropout=0.2, soft_share=0.9)
    )


class Reporter(Protocol):
    """Hears how far training is: `share` in [0, 1] of the named stage; `note` may carry a figure."""

    def __call__(self, stage: str, share: float, note: str = "") -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where the encoder starts from: a Hugging Face directory with config.json, model.safetensors, tokenizer.json."""

    directory: Path
    name: str
    licence: str


class StaleWork(Exception):
    """The work directory belongs to another dataset, start or recipe: name another one, or remove it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """One training: what from, where to, how."""

    dataset: Dataset
    start: Start | None
    work: Path
    out: Path
    recipe: Recipe
    told: Reporter
    about: Mapping[str, Any] = field(default_factory=dict)
    """Goes into manifest and model card: `made`, `licence`, and `limits` where it is not public benchmarks."""
    threads: int | None = None
    """Of torch; None: as many as it finds."""


def train(job: TrainingJob) -> Manifest:
    """Trains and writes a weights directory; without a start, the linear stage alone.

    Raises:
        StaleWork: `work` belongs to another training.
        TooLittleData: no term is in several prompts.
        UnusableEncoder: the start cannot be read.
    """
    _claim(job)
    use_threads(job.threads)
    job.told("terms", 0.0)
    terms = terms_of(job.dataset.prompts, job.dataset.rows_of("train"), size=job.recipe.vocabulary)
    job.told("terms", 1.0)
    parts, teacher = (None, None) if job.start is None else _encoder(job, job.start, terms)
    student = fit(
        job.dataset,
        _wide(terms),
        job.dataset.rows_of("train"),
        job.recipe.student,
        seed=job.recipe.seed,
        teacher=teacher,
        told=lambda share: job.told("linear stage", share),
    )
    job.told("files", 0.0)
    start = None if job.start is None else {"name": job.start.name, "licence": job.start.licence}
    return finish(
        job.dataset,
        terms,
        student,
        parts,
        Ending(
            out=job.out,
            seed=job.recipe.seed,
            encoder_share=job.recipe.encoder_share,
            about={**job.about, "start": start, "recipe": msgspec.to_builtins(job.recipe)},
        ),
    )


def _encoder(job: TrainingJob, start: Start, terms: Terms) -> tuple[EncoderParts, Floats]:
    """The encoder's parts, and logits [N, M] that teach the linear stage."""
    ids = encoder_torch.tokenized(start.directory / TOKENIZER, job.dataset.prompts)
    teacher = _kept(
        job.work / "teacher.npy", lambda: _teacher(job, terms, _frozen(job, start, ids))
    )
    training = _trained(job, start, ids, teacher)
    states = _kept(
        job.work / "states.npy",
        lambda: encoder_torch.pooled_of(
            training.model, ids, told=lambda share: job.told("encoder as trained", share)
        ),
    )
    over = _over_states(job, terms, states, teacher)
    weight, bias = encoder_torch.success_rows(training)
    classes = encoder_torch.class_rows(training)
    own = HeadRows(weight=weight, bias=bias, class_weight=classes[0], class_bias=classes[1])
    files, served, figures = _exported(job, start, training, ids, states)
    parts = EncoderParts(
        states=states, served=served, own=own, over=over, files=files, figures=figures
    )
    seen = np.hstack([states, terms.numbers])
    taught = [own.logits(states), *(rows.logits(seen) for rows in over)]
    mine: Floats = 0.5 * taught[0] + 0.5 * np.mean(taught[1:], axis=0)
    return parts, np.asarray(0.5 * mine + 0.5 * teacher, np.float32)


def _frozen(job: TrainingJob, start: Start, ids: list[list[int]]) -> Floats:
    """States [N, S] of the encoder as it starts."""
    told, given = _stage(job, "encoder as it starts"), encoder_torch.load_encoder(start.directory)
    encoder_torch.check_ids(given, ids)
    return _kept(job.work / "frozen.npy", lambda: encoder_torch.pooled_of(given, ids, told=told))


def _teacher(job: TrainingJob, terms: Terms, frozen: Floats) -> Floats:
    """Mean of three cross-fitted nets: terms, states of the encoder as it starts, both."""
    dense = np.hstack([terms.numbers, _scaled(frozen, job.dataset)[0]]).astype(np.float32)
    recipe, wide = job.recipe, _wide(terms)
    nets = {
        "terms": (wide, recipe.terms_net),
        "states": (Inputs(dense=dense), recipe.states_net),
        "both": (Inputs(dense=dense, terms=wide.terms, size=wide.size), recipe.both_net),
    }
    found = [
        cross_fitted(
            job.dataset, inputs, net, folds=recipe.folds, seed=recipe.seed,
            told=_stage(job, f"teacher: {name}"),
        )
        for name, (inputs, net) in nets.items()
    ]  # fmt: skip
    mean: Floats = np.mean(found, axis=0)
    return mean


def _trained(job: TrainingJob, start: Start, ids: list[list[int]], teacher: Floats) -> Training:
    """The trained encoder; goes on from its checkpoint. From its second pass on it follows the teacher too."""
    recipe, kept = job.recipe, job.work / "encoder.pt"
    given = encoder_torch.load_encoder(start.directory, layers=recipe.layers)
    training = encoder_torch.training_of(
        widened(given, recipe.widen, seed=recipe.seed),
        job.dataset,
        recipe.encoder,
        seed=recipe.seed,
    )
    training.resume(kept)
    lesson = encoder_torch.Lesson(
        dataset=job.dataset, ids=ids, recipe=recipe.encoder, seed=recipe.seed
    )
    while training.epoch < recipe.encoder.epochs:
        stage = f"encoder, pass {training.epoch + 1} of {recipe.encoder.epochs}"
        mixed = None
        if training.epoch:
            first = _kept(job.work / "first.npy", lambda: _first(job, training, ids))
            share = recipe.encoder_teaches
            mixed = np.asarray((1 - share) * teacher + share * first, np.float32)
        encoder_torch.train_epoch(
            training, lesson, kept=kept, teacher=mixed, told=_pass(job, stage)
        )  # fmt: skip
    return training


def _first(job: TrainingJob, training: Training, ids: list[list[int]]) -> Floats:
    told = _stage(job, "encoder after its first pass")
    return encoder_torch.success_logits(
        training, encoder_torch.pooled_of(training.model, ids, told=told)
    )


def _over_states(
    job: TrainingJob, terms: Terms, states: Floats, teacher: Floats
) -> tuple[HeadRows, ...]:
    """Heads over [states, numbers], one set a net and seed."""
    scaled, mean, gain = _scaled(states, job.dataset)
    inputs = Inputs(dense=np.hstack([scaled, terms.numbers]).astype(np.float32))
    rows, found = job.dataset.rows_of("train"), []
    for number, net in enumerate(job.recipe.heads_nets):
        for seed in range(job.recipe.seeds):
            fitted = fit(
                job.dataset, inputs, rows, net, seed=job.recipe.seed + seed, teacher=teacher,
                told=_stage(job, f"heads {number + 1}.{seed + 1}"),
            )  # fmt: skip
            heads = weight_files.rows_on_dense(fitted, job.dataset.labels.shape[1])
            found.append(weight_files.unscaled(heads, mean, gain))
    return tuple(found)


def _exported(
    job: TrainingJob, start: Start, training: Training, ids: list[list[int]], states: Floats
) -> tuple[dict[str, bytes], Floats, dict[str, Any]]:
    """Files to ship, the tune part's states as the int8 graph gives them, and how near they are to torch's."""
    whole, small = job.work / "encoder.fp32.onnx", job.work / NETWORK
    onnx_export.export_encoder(training.model, whole, small)
    onnx_export.write_parity(training.model, start.directory / TOKENIZER, job.work / PARITY)
    tune = [ids[row] for row in job.dataset.rows_of("tune")]
    served = onnx_export.pooled_by_graph(small, tune, told=_stage(job, "int8 graph"))
    exact = states[job.dataset.rows_of("tune")]
    tokenizer = (start.directory / TOKENIZER).read_bytes()
    return (
        {NETWORK: small.read_bytes(), TOKENIZER: tokenizer},
        served,
        {"least_int8_cosine": round(onnx_export.least_cosine(served, exact), 4)},
    )


def _wide(terms: Terms) -> Inputs:
    return Inputs(dense=terms.numbers, terms=terms.rows, size=len(terms.kept))


def _scaled(states: Floats, dataset: Dataset) -> tuple[Floats, Floats, Floats]:
    """States brought to a common size by training mean and deviation; with them, mean [S] and gain [S]."""
    train = states[dataset.rows_of("train")]
    mean, gain = train.mean(axis=0), 0.5 / (train.std(axis=0) + 1e-6)
    scaled: Floats = ((states - mean) * gain).astype(np.float32)
    return scaled, mean, gain


def _pass(job: TrainingJob, stage: str) -> Callable[[float, float], None]:
    return lambda share, loss: job.told(stage, share, f"loss {loss:.3f}")


def _stage(job: TrainingJob, name: str) -> Callable[[float], None]:
    return lambda share: job.told(name, share)


def _kept(path: Path, make: Callable[[], Floats]) -> Floats:
    """An array that is made once and read afterwards."""
    if not path.exists():
        part = path.with_suffix(".part.npy")
        np.save(part, make())
        part.replace(path)
    found: Floats = np.load(path)
    return found


def _claim(job: TrainingJob) -> None:
    """Marks the work directory as this training's."""
    whose = msgspec.json.encode(
        {
            "data": job.dataset.digest,
            "start": None if job.start is None else job.start.name,
            "recipe": msgspec.to_builtins(job.recipe),
        }
    )
    job.work.mkdir(parents=True, exist_ok=True)
    mark = job.work / MARK
    if mark.exists() and mark.read_bytes() != whose:
        raise StaleWork(
            f"{job.work} holds another training (other data, start or recipe): name another work "
            "directory, or remove it"
        )
    mark.write_bytes(whose)
