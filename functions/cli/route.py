"""`pickspin route`: where a prompt would be sent, and why."""

import statistics
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from functions.cli.output import AsJson, say_json
from functions.cli.up import Fleet
from functions.local.columns import terminal_width, wrap_text
from functions.runtime.errors import PickspinError
from functions.runtime.settings import load_settings

if TYPE_CHECKING:
    from functions.cli.route_output import ExplainedDecision
    from router_model.catalogue.model import Catalogue
    from router_model.replay.replayed_decisions import Readiness
    from router_model.routing.context import RouteRequest, RoutingContext

EXAMPLES: Final = """\b
Examples:
  pickspin route "Prove that there are infinitely many primes."
  pickspin route "What is 2 + 2?" --explain --profile cost --warm
  pickspin route "What is the capital of Norway?" --fleet demo
  pickspin route "Hello" --max-latency-s 2 --explain --json
"""
TIMES: Final = 21
"""Decisions made to time one: the first reads weights and fills caches."""


class NotRouted(PickspinError):
    """The router would refuse this; the message says why."""


def routing(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(epilog=EXAMPLES)(route)


def route(  # noqa: PLR0913 - each parameter is a word of the command line
    prompt: Annotated[str, typer.Argument(help="The question.")],
    *,
    explain: Annotated[
        bool, typer.Option("--explain", help="Every candidate, every term, every reason.")
    ] = False,
    model: Annotated[str, typer.Option(help="What the request would name.")] = "auto",
    profile: Annotated[str | None, typer.Option(help="quality, cost, speed, balanced, ...")] = None,
    catalogue: Annotated[str | None, typer.Option(help="Catalogue file.")] = None,
    max_cost_usd: Annotated[float | None, typer.Option(min=0, help="Limit of its cost.")] = None,
    max_latency_s: Annotated[float | None, typer.Option(min=0, help="Limit of its time.")] = None,
    min_quality: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least chance of a good answer.")
    ] = None,
    fleet: Annotated[
        Fleet | None, typer.Option(help="demo: as pickspin up --fleet demo adds them.")
    ] = None,
    warm: Annotated[bool, typer.Option("--warm", help="As if every model were idle.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say where a prompt would be sent, and why.

    As if every model were asleep (or idle, with --warm); needs nothing that runs.
    """
    from events.names import Operation  # noqa: PLC0415 - what routes is not needed by other verbs
    from functions import factories  # noqa: PLC0415
    from router_model.classifier.features import extract_features  # noqa: PLC0415
    from router_model.replay.replayed_decisions import assume_registry  # noqa: PLC0415
    from router_model.routing.constraints import Constraints  # noqa: PLC0415
    from router_model.routing.context import RouteRequest, RoutingContext  # noqa: PLC0415

    settings = load_settings()
    if catalogue is not None:
        settings = msgspec.structs.replace(settings, catalogue=catalogue)
    limits = Constraints(
        max_cost_usd=max_cost_usd, max_latency_s=max_latency_s, min_quality=min_quality
    )
    body = {"messages": [{"role": "user", "content": prompt}]}
    features = extract_features(Operation.CHAT, body)
    request = RouteRequest(model=model, features=features, profile=profile, limits=limits)
    known = factories.load_catalogue(settings)
    readiness: Readiness = "warm" if warm else "cold"
    now, effective = datetime.now(UTC), known if fleet is None else _with_fleet(known)
    context = RoutingContext(
        catalogue=effective,
        registry=assume_registry(effective, readiness, now),
        now=now,
        classifier=factories.load_classifier(settings),
        policies=factories.load_policies(effective, settings),
    )
    _say(_explain(request, context, readiness), is_full=explain, as_json=as_json)


def _with_fleet(catalogue: "Catalogue") -> "Catalogue":
    from router_model.catalogue.loader import CatalogueRejected  # noqa: PLC0415
    from router_model.catalogue.merge import with_demo_fleet  # noqa: PLC0415

    try:
        return with_demo_fleet(catalogue)
    except CatalogueRejected as error:
        raise NotRouted(f"--fleet does not fit the catalogue: {error}") from error


def _explain(
    request: "RouteRequest", context: "RoutingContext", readiness: "Readiness"
) -> "ExplainedDecision":
    from functions.cli.route_output import ExplainedDecision  # noqa: PLC0415
    from router_model.routing.no_route import NoRoute  # noqa: PLC0415
    from router_model.routing.select import decide  # noqa: PLC0415

    took_ms: list[float] = []
    try:
        for _ in range(TIMES):
            start = time.perf_counter()
            decision = decide(request, context)
            took_ms.append((time.perf_counter() - start) * 1000)
    except NoRoute as refusal:
        raise NotRouted(f"{refusal.code}: {refusal.message}") from refusal
    return ExplainedDecision(
        request=request,
        catalogue=context.catalogue,
        decision=decision,
        readiness=readiness,
        decision_ms=statistics.median(took_ms),
        first_ms=took_ms[0],
    )


def _say(explained: "ExplainedDecision", *, is_full: bool, as_json: bool) -> None:
    from functions.cli.route_output import as_plain, full_lines, short_lines  # noqa: PLC0415

    if as_json:
        say_json(as_plain(explained))
        return
    width = terminal_width()
    lines = [part for line in short_lines(explained) for part in wrap_text(line, width)]
    for line in [*lines, *(full_lines(explained, width) if is_full else ())]:
        typer.echo(line)
