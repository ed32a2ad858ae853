"""What the verbs that learn have in common: outcome files and a store to learn from, and where weights go."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from functions.cli.store_options import apply_store_options, open_request_store, parse_instant
from functions.runtime.errors import PickspinError
from functions.runtime.settings import load_settings

if TYPE_CHECKING:
    from router_model.replay.outcome_dataset import OutcomeRow

Out = Annotated[
    Path, typer.Option(help="Directory for the weights: new, empty, or of earlier weights.")
]
Data = Annotated[Path | None, typer.Option(help="Directory of outcome files (*.jsonl.gz).")]
Source = Annotated[list[str] | None, typer.Option(help="Only these files; repeatable.")]
FromStore = Annotated[
    bool, typer.Option("--from-store", help="Learn from the rated answers of a store.")
]


class TrainFailed(PickspinError):
    """There are no weights; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeFiles:
    """Outcome files to learn from; no `sources` means all."""

    directory: Path
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSource:
    """The store to learn from, as on the command line."""

    store: str | None
    data_dir: str | None
    since: str | None
    tenant: str | None


def check_options(
    files: OutcomeFiles | None,
    source: list[str] | None,
    recorded: StoreSource,
    *,
    is_recorded: bool,
) -> None:
    """Raises BadParameter where the options name nothing to learn from, or contradict each other."""
    if files is None and not is_recorded:
        raise typer.BadParameter("name what to learn from: --data DIR, --from-store, or both")
    if files is None and source:
        raise typer.BadParameter("--source names files of --data, which is missing")
    if not is_recorded and recorded != StoreSource(
        store=None, data_dir=None, since=None, tenant=None
    ):
        raise typer.BadParameter("--store, --data-dir, --since and --tenant go with --from-store")


def check_out(out: Path) -> None:
    """Finds out before an hour's work whether its result can be written."""
    from router_model.classifier.weights import MANIFEST  # noqa: PLC0415 - numpy is not needed to list the verbs

    if out.exists() and not out.is_dir():
        raise TrainFailed(f"--out {out} is a file; name a directory")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise TrainFailed(f"--out {out} is not empty and holds no weights; name another directory")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise TrainFailed(f"cannot write to --out {out}: {error.strerror}") from error


def read_outcome_rows(
    files: OutcomeFiles | None, recorded: StoreSource | None
) -> "Iterator[OutcomeRow]":
    """Rows of the files, then of the store."""
    if files is not None:
        yield from _read_file_rows(files)
    if recorded is not None:
        yield from _read_store_rows(recorded)


def _read_file_rows(files: OutcomeFiles) -> "Iterator[OutcomeRow]":
    from router_model.replay.outcome_dataset import list_outcome_files, read_outcomes  # noqa: PLC0415

    missing = set(files.sources) - list_outcome_files(files.directory).keys()
    if missing:
        raise TrainFailed(f"no such file in {files.directory}: {', '.join(sorted(missing))}")
    yield from read_outcomes(files.directory, sources=files.sources or None)


def _read_store_rows(recorded: StoreSource) -> "Iterator[OutcomeRow]":
    from functions import factories  # noqa: PLC0415 - needed by this verb alone
    from functions.cli.finished_requests import outcomes_from_store  # noqa: PLC0415
    from functions.ports.store import FinishedQuery  # noqa: PLC0415

    settings = apply_store_options(
        load_settings(), store=recorded.store, data_dir=recorded.data_dir
    )
    query = FinishedQuery(
        tenant=recorded.tenant, since=parse_instant(recorded.since, datetime.now(UTC))
    )
    opened = open_request_store(settings)
    try:
        blobs, catalogue = factories.open_blobs(settings), factories.load_catalogue(settings)
        yield from outcomes_from_store(opened, blobs, catalogue, query=query)
    finally:
        opened.close()
