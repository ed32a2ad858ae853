"""`pickspin replay`: recorded requests decided again, and what that would come to."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from functions.cli.output import AsJson, say_table
from functions.cli.store_options import (
    DataDir,
    Since,
    StoreUrl,
    Tenant,
    apply_store_options,
    open_request_store,
    parse_instant,
)
from functions.local.columns import terminal_width, wrap_text
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import Settings, load_settings

if TYPE_CHECKING:
    from functions.ports.store import FinishedQuery
    from router_model.replay.replay_summary import ReplaySummary
    from router_model.replay.replayed_decisions import RecordedRequest, Redecided, Scenario

EXAMPLES = """\b
Examples:
  pickspin replay --profile cost
  pickspin replay --data-dir ./data --catalogue next.yaml --since 7d --json
  pickspin replay --file outcomes.jsonl.gz --profile quality --limit 0
"""


def replaying(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(epilog=EXAMPLES)(replay)


def replay(  # noqa: PLR0913 - each parameter is an option of the command line
    *,
    store: StoreUrl = None,
    data_dir: DataDir = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Outcome rows, batch lines or bodies (.jsonl, .jsonl.gz) instead of a store.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    profile: Annotated[str | None, typer.Option(help="Decide with this profile.")] = None,
    model: Annotated[str | None, typer.Option(help="As if each had named this.")] = None,
    catalogue: Annotated[str | None, typer.Option(help="Decide with this catalogue file.")] = None,
    since: Since = None,
    tenant: Tenant = None,
    limit: Annotated[int, typer.Option(min=0, help="Newest this many; 0: all.")] = 1000,
    cold: Annotated[bool, typer.Option("--cold", help="As if every model slept.")] = False,
    as_json: AsJson = False,
) -> None:
    """Decide recorded requests again: what would have come of them.

    Each is decided as if it were alone, with every model idle (or asleep, with --cold). What was measured and what is
    expected stand apart.
    """
    if file is not None and (store or data_dir or since or tenant):
        raise typer.BadParameter(
            "--file goes without --store, --data-dir, --since and --tenant", param_hint="--file"
        )
    settings = apply_store_options(
        load_settings(), store=store, data_dir=data_dir, catalogue=catalogue
    )
    now = datetime.now(UTC)
    scenario = _scenario(settings, now, is_cold=cold, profile=profile, model=model)
    with _requests(settings, file, since=parse_instant(since, now), tenant=tenant) as requests:
        some = islice(requests, limit or None)
        _say(some, scenario, as_json=as_json, assumed="asleep" if cold else "idle")


def _scenario(
    settings: Settings, now: datetime, *, is_cold: bool, profile: str | None, model: str | None
) -> "Scenario":
    from functions import factories  # noqa: PLC0415 - needed by this verb alone
    from router_model.catalogue.struct_validation import nearest  # noqa: PLC0415
    from router_model.replay.replayed_decisions import Scenario, assume_registry  # noqa: PLC0415
    from router_model.routing.context import RoutingContext  # noqa: PLC0415

    catalogue = factories.load_catalogue(settings)
    if profile is not None and profile not in catalogue.profiles:
        raise StartupFailed(
            f"the catalogue has no profile {profile}{nearest(profile, catalogue.profiles)}; "
            f"it has {', '.join(sorted(catalogue.profiles))}"
        )
    context = RoutingContext(
        catalogue=catalogue,
        registry=assume_registry(catalogue, "cold" if is_cold else "warm", now),
        now=now,
        classifier=factories.load_classifier(settings),
        policies=factories.load_policies(catalogue, settings),
    )
    return Scenario(context=context, profile=profile, model=model)


@contextmanager
def _requests(
    settings: Settings, file: Path | None, *, since: datetime | None, tenant: str | None
) -> Iterator[Iterator["RecordedRequest"]]:
    from functions.ports.store import FinishedQuery  # noqa: PLC0415

    if file is not None:
        from functions.cli.replay_input import read_recorded_file  # noqa: PLC0415

        yield read_recorded_file(file)
        return
    opened = open_request_store(settings)
    try:
        yield _of_store(settings, opened, FinishedQuery(since=since, tenant=tenant))
    finally:
        opened.close()


def _of_store(
    settings: Settings, opened: Any, query: "FinishedQuery"
) -> Iterator["RecordedRequest"]:
    from functions import factories  # noqa: PLC0415
    from functions.cli.finished_requests import build_recorded, read_finished, read_requests  # noqa: PLC0415

    for one in read_requests(read_finished(opened, query), factories.open_blobs(settings)):
        yield build_recorded(one)


def _say(
    requests: Iterable["RecordedRequest"], scenario: "Scenario", *, as_json: bool, assumed: str
) -> None:
    """One line a request as it is decided, then the summary: nothing but the summary grows in memory."""
    from functions.cli.replay_output import request_lines, request_lines_head  # noqa: PLC0415
    from router_model.replay.replay_summary import ReplaySummary  # noqa: PLC0415
    from router_model.replay.replayed_decisions import replay as redecide_all  # noqa: PLC0415

    summary, width = ReplaySummary(), terminal_width()
    about = {"catalogue": scenario.context.catalogue.version, "models_are": assumed}
    if as_json:
        typer.echo(json.dumps(about)[:-1] + ', "requests": [')
    else:
        typer.echo(request_lines_head(width))
    for redecided in redecide_all(requests, scenario):
        if as_json:
            comma = "," if summary.requests else ""
            typer.echo(comma + json.dumps(_as_plain(redecided), ensure_ascii=False))
        else:
            typer.echo("\n".join(request_lines(redecided, width)))
        summary = summary.add(redecided)
    if as_json:
        typer.echo(f'], "summary": {json.dumps(msgspec.to_builtins(summary))}}}')
    else:
        _say_summary(summary, scenario, assumed)


def _say_summary(summary: "ReplaySummary", scenario: "Scenario", assumed: str) -> None:
    from functions.cli.replay_output import summary_rows  # noqa: PLC0415

    typer.echo("")
    told = (
        f"{summary.requests} requests under catalogue {scenario.context.catalogue.version}, every model {assumed}: "
        f"{summary.changed} would go elsewhere, {summary.refused} would be refused; "
        f"{summary.failed} failed when they were made"
    )
    for name, count in summary.policies.items():
        told += f"; {count} ranked by policy {name}"
    if summary.policy_failures:
        told += f"; the policy failed {summary.policy_failures} times, and equation 2 ranked"
    typer.echo("\n".join(wrap_text(told, terminal_width())))
    typer.echo("")
    head, *rows = summary_rows(summary)
    say_table(head, rows)


def _as_plain(redecided: "Redecided") -> dict[str, Any]:
    decision = redecided.decision
    return {
        "id": redecided.id,
        "asked_model": redecided.asked_model,
        "changed": redecided.is_changed,
        "failed": redecided.is_failed,
        "was": msgspec.to_builtins(redecided.was),
        "would": msgspec.to_builtins(redecided.would),
        "refusal": redecided.refusal,
        "decision": None
        if decision is None
        else {
            "class": decision.route_class,
            "tier": decision.tier,
            "stage": decision.stage,
            "score": decision.score,
            "profile": decision.profile,
            "reason": decision.reason,
            "policy": decision.policy,
            "policy_fault": decision.policy_fault,
        },
    }
