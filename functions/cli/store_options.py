"""Options that name a store of ended requests, and the settings they come to."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from functions import factories
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import Settings

if TYPE_CHECKING:
    from functions.ports.store import Store

StoreUrl = Annotated[
    str | None,
    typer.Option("--store", help="SQLAlchemy URL. [default: the store in the data directory]"),
]
DataDir = Annotated[str | None, typer.Option(help="Data directory of a pickspin up.")]
Since = Annotated[
    str | None,
    typer.Option(help="Only what ended since: 2026-11-20, 2026-11-20T12:00Z, or 36h or 7d ago."),
]
Tenant = Annotated[str | None, typer.Option(help="Only this tenant's.")]
_SQLITE_FILE: Final = "sqlite:///"


def apply_store_options(
    settings: Settings, *, store: str | None, data_dir: str | None, catalogue: str | None = None
) -> Settings:
    """Settings with the options of the command line.

    Without a catalogue of its own, a data directory is read with the catalogue that its `pickspin up` wrote there.
    """
    from functions.local.preflight import CATALOGUE_FILE  # noqa: PLC0415 - not needed to list the verbs

    if data_dir is not None:
        settings = msgspec.structs.replace(settings, data_dir=data_dir)
    if store is not None:
        changed = msgspec.structs.replace(settings.store, url=store)
        settings = msgspec.structs.replace(settings, store=changed)
    written = factories.data_path(settings) / CATALOGUE_FILE
    if catalogue is None and not settings.catalogue and not settings.store.url:
        catalogue = str(written) if written.is_file() else None
    if catalogue is not None:
        settings = msgspec.structs.replace(settings, catalogue=catalogue)
    return settings


def open_request_store(settings: Settings) -> "Store":
    """The store of the settings, which must be there already.

    Raises:
        StartupFailed: it is not, or cannot be opened.
    """
    url = settings.store.url or f"{_SQLITE_FILE}{factories.data_path(settings) / 'store.sqlite3'}"
    path = url.removeprefix(_SQLITE_FILE)
    if path != url and not Path(path).is_file():
        raise StartupFailed(f"there is no store at {path}: name one with --store or --data-dir")
    return factories.open_store(settings)


def parse_instant(text: str | None, now: datetime) -> datetime | None:
    """The instant that `--since` names; a time without a zone is UTC.

    Raises:
        typer.BadParameter: it is none.
    """
    if text is None:
        return None
    unit = {"h": 1.0, "d": 24.0}.get(text[-1:])
    try:
        if unit is not None:
            return now - timedelta(hours=float(text[:-1]) * unit)
        instant = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"--since {text}: no date, time or age") from error
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
