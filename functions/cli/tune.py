"""`pickspin tune`: the weights of a profile, found by grid search over recorded outcomes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from functions.cli.output import AsJson, say_json, say_table
from functions.runtime.errors import PickspinError
from functions.runtime.settings import load_settings

if TYPE_CHECKING:
    from router_model.catalogue.model import Catalogue, Profile
    from router_model.replay.profile_search import ScoredOutcomes, Trial

HEAD = ("PROFILE", "ALPHA", "LAMBDA", "MU", "ACCURACY", "USD/1K", "SECONDS", "MOSTLY")
EXAMPLES = (
    "Examples: pickspin tune --data outcomes --max-cost-usd-per-1k 0.5  |  "
    "pickspin tune --data outcomes --maximise utility --usd-weight 0.05 --second-weight 0.01  |  "
    "pickspin tune --data outcomes --catalogue my.yaml --name frugal --max-latency-s 4 --write my.yaml"
)


class TuneFailed(PickspinError):
    """Nothing was found or written; the message says why."""


def add_tune(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(epilog=EXAMPLES)(tune)


def tune(  # noqa: PLR0913 - each parameter is a word of the command line
    data: Annotated[Path, typer.Option(help="Directory of outcome files (*.jsonl.gz).")],
    *,
    catalogue: Annotated[str | None, typer.Option(help="Catalogue file.")] = None,
    source: Annotated[list[str] | None, typer.Option(help="Only these files; repeatable.")] = None,
    maximise: Annotated[str, typer.Option(help="accuracy or utility.")] = "accuracy",
    max_cost_usd_per_1k: Annotated[
        float | None, typer.Option(min=0, help="Most USD for 1,000 prompts.")
    ] = None,
    max_latency_s: Annotated[
        float | None, typer.Option(min=0, help="Most seconds to an answer, on average.")
    ] = None,
    usd_weight: Annotated[
        float, typer.Option(min=0, help="Utility: accuracy that 1 USD per 1,000 prompts is worth.")
    ] = 0.0,
    second_weight: Annotated[
        float, typer.Option(min=0, help="Utility: accuracy that one second is worth.")
    ] = 0.0,
    prompts: Annotated[int, typer.Option(min=1, help="At most so many prompts.")] = 3000,
    step: Annotated[float, typer.Option(min=0.01, max=0.5, help="Step of the grid.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Which prompts, where there are more.")] = 0,
    name: Annotated[str, typer.Option(help="Name of the profile.")] = "tuned",
    write: Annotated[
        Path | None,
        typer.Option(help="Catalogue file to add or change the profile in.", dir_okay=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find the weights of a profile on recorded outcomes.

    Replays prompts of the tune part (10 % by question; never those that results are reported on) through the router's
    own scoring, with every service warm and idle, for every (alpha, lambda, mu) of a grid. Models are matched by the
    name under which the catalogue's `learned_as` (else the id) knows them.
    """
    from router_model.replay.profile_search import (  # noqa: PLC0415
        NothingToTune,
        Objective,
        make_grid,
        search,
        select_best,
        select_pareto,
    )

    if maximise not in {"accuracy", "utility"}:
        raise typer.BadParameter("--maximise is accuracy or utility")
    objective = Objective(
        maximise="utility" if maximise == "utility" else "accuracy",
        max_cost_usd_per_1k=max_cost_usd_per_1k,
        max_latency_s=max_latency_s,
        usd_weight=usd_weight,
        second_weight=second_weight,
    )
    found_catalogue = _catalogue(catalogue)
    try:
        points = make_grid(step)
        outcome = _replay(data, source, found_catalogue, prompts, seed)
        trials = search(outcome, points)
        winner = select_best(trials, objective)
    except (NothingToTune, ValueError) as error:
        raise TuneFailed(str(error)) from error
    known = search(outcome, found_catalogue.profiles.values())
    report = _Report(
        winner=winner,
        front=select_pareto(trials),
        known=dict(zip(found_catalogue.profiles, known, strict=True)),
        prompts=outcome.prompts,
        name=name,
        objective=objective,
    )
    _say(report, as_json=as_json)
    if write is not None:
        _write(write, name, winner.profile)


class _Report(msgspec.Struct, frozen=True, kw_only=True):
    winner: Any
    front: Any
    known: Any
    prompts: int
    name: str
    objective: Any


def _replay(
    data: Path, sources: list[str] | None, catalogue: "Catalogue", prompts: int, seed: int
) -> "ScoredOutcomes":
    from functions import factories  # noqa: PLC0415 - the loader is not needed by other verbs
    from router_model.replay.outcome_dataset import (  # noqa: PLC0415
        EVALUATION_ONLY,
        BadOutcomes,
        list_outcome_files,
        read_outcomes,
    )
    from router_model.replay.profile_search import score_outcomes, select_tuning_rows  # noqa: PLC0415
    from router_model.routing.estimate_history import start_history  # noqa: PLC0415

    try:
        files = list_outcome_files(data).keys()
        missing = set(sources or ()) - files
        if missing:
            raise TuneFailed(f"no such file in {data}: {', '.join(sorted(missing))}")
        wanted = set(sources or files) - EVALUATION_ONLY
        rows = select_tuning_rows(
            read_outcomes(data, sources=wanted), catalogue, limit=prompts, seed=seed
        )
    except BadOutcomes as error:
        raise TuneFailed(str(error)) from error
    classifier = factories.load_classifier(load_settings())
    return score_outcomes(rows, catalogue, classifier, start_history(catalogue.norm))


def _say(report: _Report, *, as_json: bool) -> None:
    if as_json:
        say_json(msgspec.to_builtins(report))
        return
    from router_model.catalogue.edit import profile_line  # noqa: PLC0415

    rows: list[tuple[str, ...]] = []
    for one in report.front:
        is_found = _got(one) == _got(report.winner)
        rows.append(_row(f"* {report.name}", report.winner) if is_found else _row("  -", one))
    rows += [_row(f"  {name}", one) for name, one in report.known.items()]
    typer.echo(
        f"{report.prompts} prompts; no other weights beat these in accuracy, cost and time at once; "
        "below them the profiles of the catalogue"
    )
    say_table(HEAD, rows)
    typer.echo(f"\nprofiles:\n  {profile_line(report.name, report.winner.profile)}")


def _got(one: "Trial") -> tuple[float, float, float]:
    return one.accuracy, one.cost_usd_per_1k, one.latency_s


def _row(name: str, one: "Trial") -> tuple[str, ...]:
    profile = one.profile
    service, share = max(one.shares.items(), key=lambda pair: pair[1])
    return (
        name,
        f"{profile.alpha:.3g}",
        f"{profile.latency:.3g}",
        f"{profile.cost:.3g}",
        f"{one.accuracy:.4f}",
        f"{one.cost_usd_per_1k:.4f}",
        f"{one.latency_s:.2f}",
        f"{service} {share:.0%}",
    )


def _write(path: Path, name: str, profile: "Profile") -> None:
    from router_model.catalogue.edit import NotEditable, with_profile  # noqa: PLC0415
    from router_model.catalogue.loader import CatalogueRejected  # noqa: PLC0415

    try:
        text = path.read_bytes().decode("utf-8")
        path.write_bytes(with_profile(text, name, profile).encode())
    except (CatalogueRejected, NotEditable, UnicodeDecodeError) as error:
        raise TuneFailed(f"{path} is as it was; add the profile by hand: {error}") from error
    typer.echo(f"{path}: profile {name} written", err=True)


def _catalogue(path: str | None) -> "Catalogue":
    from functions import factories  # noqa: PLC0415 - the loader is not needed by other verbs

    settings = load_settings()
    if path is not None:
        settings = msgspec.structs.replace(settings, catalogue=path)
    return factories.load_catalogue(settings)
