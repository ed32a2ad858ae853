"""`pickspin extend`: heads for further models, put into existing weights. Needs no torch."""

from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from functions.cli.recorded_options import DataDir, Since, StoreUrl, Tenant, chosen
from functions.cli.saying import AsJson, say_json, say_rows
from functions.cli.training import (
    Files,
    Recorded,
    TrainFailed,
    check_options,
    check_out,
    rows_of,
)
from functions.cli.training_progress import open_progress
from functions.settings import load_settings

EXAMPLES: Final = (
    "Examples: pickspin extend --from-store --out weights  |  "
    "pickspin extend --data outcomes --source mine --weights my-weights --out my-weights-2"
)


def extending(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(epilog=EXAMPLES)(extend)


def extend(  # noqa: PLR0913 - each parameter is a word of the command line
    out: Annotated[
        Path, typer.Option(help="Directory for the weights: new, empty, or of earlier weights.")
    ],
    *,
    weights: Annotated[
        Path | None, typer.Option(help="Weights to add to. [default: the shipped ones]")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Directory of outcome files (*.jsonl.gz).")
    ] = None,
    source: Annotated[list[str] | None, typer.Option(help="Only these files; repeatable.")] = None,
    from_store: Annotated[
        bool, typer.Option("--from-store", help="Learn from the rated answers of a store.")
    ] = False,
    store: StoreUrl = None,
    data_dir: DataDir = None,
    since: Since = None,
    tenant: Tenant = None,
    min_labels: Annotated[int, typer.Option(min=1, help="Rated prompts that a model needs.")] = 40,
    as_json: AsJson = False,
) -> None:
    """Teach the router further models, or models anew, from a few hundred rated answers each.

    Everything else of the weights stays as it is: a model is placed in the space that all models share, starting at the
    average model of its tier. Takes seconds to minutes and no torch.
    """
    from functions import wiring  # noqa: PLC0415 - needed by this verb alone
    from router_model.outcomes import BadOutcomes  # noqa: PLC0415
    from router_model.training.dataset import TooLittleData  # noqa: PLC0415
    from router_model.training.extending import extend as extend_weights  # noqa: PLC0415
    from router_model.weights import SHIPPED, WeightsUnusable  # noqa: PLC0415

    files = None if data is None else Files(directory=data, sources=tuple(source or ()))
    recorded = Recorded(store=store, data_dir=data_dir, since=since, tenant=tenant)
    check_options(files, source, recorded, is_recorded=from_store)
    check_out(out)
    settings = chosen(load_settings(), store=store, data_dir=data_dir)
    catalogue = wiring.load_catalogue(settings)
    tiers = {model.learned_name: model.tier for model in catalogue.models}
    try:
        with open_progress() as told:
            found = extend_weights(
                SHIPPED if weights is None else weights,
                rows_of(files, recorded if from_store else None),
                out,
                tiers=tiers,
                min_labels=min_labels,
                told=lambda share: told("prompts", share),
            )
    except TooLittleData as error:
        raise TrainFailed(f"too little data: {error}") from error
    except (BadOutcomes, WeightsUnusable) as error:
        raise TrainFailed(str(error)) from error
    if as_json:
        say_json(msgspec.to_builtins(found))
        return
    say_rows([("MODEL", "TIER", "LABELS"), *((e.name, e.tier, str(e.labels)) for e in found)])
    typer.echo(f"to use them: PICKSPIN_ROUTER_WEIGHTS={out}")
