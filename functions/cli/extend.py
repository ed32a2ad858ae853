"""`pickspin extend`: heads for further models, and for classes, put into existing weights. Needs no torch."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from functions.cli.output import AsJson, say_json, say_table
from functions.cli.store_options import DataDir, Since, StoreUrl, Tenant, apply_store_options
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
    from router_model.catalogue.model import Tier
    from router_model.replay.outcome_dataset import OutcomeRow
    from router_model.training.add_models import NewHead
    from router_model.training.complexity import ClassesLearned

EXAMPLES: Final = (
    "Examples: pickspin extend --from-store --out weights  |  "
    "pickspin extend --data outcomes --source mine --weights my-weights --out my-weights-2  |  "
    "pickspin extend --classes labelled.jsonl --out weights"
)


def add_extend(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(epilog=EXAMPLES)(extend)


def extend(  # noqa: PLR0913 - each parameter is a word of the command line
    out: Out,
    *,
    weights: Annotated[
        Path | None, typer.Option(help="Weights to add to. [default: the shipped ones]")
    ] = None,
    data: Data = None,
    source: Source = None,
    from_store: FromStore = False,
    store: StoreUrl = None,
    data_dir: DataDir = None,
    since: Since = None,
    tenant: Tenant = None,
    classes: Annotated[
        Path | None,
        typer.Option(help='Labelled prompts: a line {"prompt": ..., "class": "low"} each.'),
    ] = None,
    min_labels: Annotated[int, typer.Option(min=1, help="Rated prompts that a model needs.")] = 40,
    as_json: AsJson = False,
) -> None:
    """Teach the router further models from few rated answers.

    Everything else of the weights stays as it is: a model is placed in the space that all models share, starting at the
    average model of its tier. With --classes the router learns from labelled prompts which class (low, medium, high) a
    prompt has. Takes seconds to minutes and no torch.
    """
    files = None if data is None else OutcomeFiles(directory=data, sources=tuple(source or ()))
    recorded = StoreSource(store=store, data_dir=data_dir, since=since, tenant=tenant)
    nothing = StoreSource(store=None, data_dir=None, since=None, tenant=None)
    has_rows = classes is None or any((files, source, from_store, recorded != nothing))
    if has_rows:
        check_options(files, source, recorded, is_recorded=from_store)
    check_out(out)
    heads: tuple[NewHead, ...] = ()
    if has_rows:
        rows = read_outcome_rows(files, recorded if from_store else None)
        heads = _extend_models(weights, rows, out, _tiers(recorded), min_labels)
    learned = (
        None if classes is None else _extend_classes(out if has_rows else weights, classes, out)
    )
    _say(heads, learned, out, as_json=as_json)


def _say(
    heads: "tuple[NewHead, ...]", learned: "ClassesLearned | None", out: Path, *, as_json: bool
) -> None:
    if as_json:
        models = msgspec.to_builtins(heads)
        both = {"models": models, "classes": msgspec.to_builtins(learned)}
        say_json(models if learned is None else both)
        return
    if heads:
        say_table(("MODEL", "TIER", "LABELS"), [(e.name, e.tier, str(e.labels)) for e in heads])
    if learned is not None:
        shares = ", ".join(f"{one.stage} {one.accuracy:.0%}" for one in learned.stages)
        typer.echo(f"classes of {learned.prompts} prompts; found right where kept apart: {shares}")
    typer.echo(f"to use them: PICKSPIN_ROUTER_WEIGHTS={out}")


def _tiers(recorded: StoreSource) -> "dict[str, Tier]":
    """Tiers by learned name, as the catalogue states them."""
    from functions import factories  # noqa: PLC0415 - needed by this verb alone

    settings = apply_store_options(
        load_settings(), store=recorded.store, data_dir=recorded.data_dir
    )
    return {model.learned_name: model.tier for model in factories.load_catalogue(settings).models}


def _extend_models(
    base: Path | None,
    rows: "Iterator[OutcomeRow]",
    out: Path,
    tiers: "dict[str, Tier]",
    min_labels: int,
) -> "tuple[NewHead, ...]":
    from router_model.classifier.weights import SHIPPED, WeightsUnusable  # noqa: PLC0415
    from router_model.replay.outcome_dataset import BadOutcomes  # noqa: PLC0415 - needed by this verb alone
    from router_model.training.add_models import extend as extend_weights  # noqa: PLC0415
    from router_model.training.dataset import TooLittleData  # noqa: PLC0415

    try:
        with open_progress() as told:
            return extend_weights(
                SHIPPED if base is None else base, rows, out,
                tiers=tiers, min_labels=min_labels, told=lambda share: told("prompts", share),
            )  # fmt: skip
    except TooLittleData as error:
        raise TrainFailed(f"too little data: {error}") from error
    except (BadOutcomes, WeightsUnusable) as error:
        raise TrainFailed(str(error)) from error


def _extend_classes(base: Path | None, labelled: Path, out: Path) -> "ClassesLearned":
    from router_model.classifier.weights import SHIPPED, WeightsUnusable  # noqa: PLC0415
    from router_model.training.complexity import (  # noqa: PLC0415 - needed by this verb alone
        BadLabels,
        learn_classes,
        read_labelled,
    )
    from router_model.training.dataset import TooLittleData  # noqa: PLC0415

    try:
        with open_progress() as told:
            return learn_classes(
                SHIPPED if base is None else base,
                read_labelled(labelled),
                out,
                told=lambda share: told("labelled prompts", share),
            )
    except TooLittleData as error:
        raise TrainFailed(f"too little data: {error}") from error
    except (BadLabels, WeightsUnusable) as error:
        raise TrainFailed(str(error)) from error
