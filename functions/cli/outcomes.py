"""`pickspin outcomes export`: rated answers of a store as a file to learn from."""

import gzip
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from functions.cli.output import AsJson, say_json
from functions.cli.store_options import (
    DataDir,
    Since,
    StoreUrl,
    Tenant,
    apply_store_options,
    open_request_store,
    parse_instant,
)
from functions.runtime.settings import load_settings
from functions.storage.whole_files import replace_file
from router_model.replay.outcome_dataset import OutcomeRow

FILE_NAME: Final = "store.jsonl.gz"


def add_outcomes(app: typer.Typer) -> None:
    """Adds the verb."""
    outcomes = typer.Typer(help="Work on recorded outcomes.")
    outcomes.callback()(lambda: None)
    outcomes.command("export", epilog="Example: pickspin outcomes export --out ./outcomes")(export)
    app.add_typer(outcomes, name="outcomes")


def export(
    out: Annotated[Path, typer.Option(help="Directory to write to.", file_okay=False)],
    *,
    store: StoreUrl = None,
    data_dir: DataDir = None,
    tenant: Tenant = None,
    since: Since = None,
    as_json: AsJson = False,
) -> None:
    """Write every rated answer as an outcome: prompt, model, score, length, cost, time.

    The file holds prompts of your users: treat it as you treat the store.
    """
    from functions import factories  # noqa: PLC0415 - needed by this verb alone
    from functions.cli.finished_requests import outcomes_from_store  # noqa: PLC0415
    from functions.ports.store import FinishedQuery  # noqa: PLC0415

    settings = apply_store_options(load_settings(), store=store, data_dir=data_dir)
    query = FinishedQuery(tenant=tenant, since=parse_instant(since, datetime.now(UTC)))
    opened = open_request_store(settings)
    try:
        rows = outcomes_from_store(
            opened, factories.open_blobs(settings), factories.load_catalogue(settings), query=query
        )
        path = out / FILE_NAME
        count = write_outcomes(path, rows)
    finally:
        opened.close()
    if as_json:
        say_json({"path": str(path), "rows": count})
    else:
        typer.echo(f"{count} rated answers in {path}")


def write_outcomes(path: Path, rows: Iterable[OutcomeRow]) -> int:
    """Writes the rows as gzip JSON Lines, in place of an earlier file when all is written; returns their number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encoder, count = msgspec.json.Encoder(), 0
    with replace_file(path) as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
        for row in rows:
            count += 1
            file.write(encoder.encode(row) + b"\n")
    return count
