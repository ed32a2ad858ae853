"""Shared pieces of wiring: from settings to the adapters that several processes open in the same way."""

import logging
import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

from functions.ports.blobs import BlobStore
from functions.ports.clock import Clock
from functions.ports.kafka import RecordLog
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import Settings
from functions.storage.private_files import make_private_folder

if TYPE_CHECKING:
    from functions.ports.store import Store
    from router_model.catalogue.model import Catalogue
    from router_model.classifier.keyword_rules import Classifier
    from router_model.routing.policy import LoadedPolicy

log = logging.getLogger(__name__)

STORE_FILE: Final = "store.sqlite3"


def data_path(settings: Settings) -> Path:
    """Where the data directory is, or would be."""
    return Path(settings.data_dir or Path.home() / ".local" / "share" / "pickspin").expanduser()


def data_dir(settings: Settings) -> Path:
    """The data directory, created when missing, then its owner's alone.

    Raises:
        StartupFailed: it cannot be created or written.
    """
    path = data_path(settings)
    try:
        if not path.is_dir():
            make_private_folder(path)
    except OSError as error:
        raise StartupFailed(f"cannot create the data directory {path}: {error.strerror}") from error
    if not os.access(path, os.W_OK):
        raise StartupFailed(f"the data directory {path} is not writable")
    return path


def open_log(settings: Settings) -> RecordLog:
    """The cluster of `settings.broker`; connections are made when its parts are opened."""
    from functions.kafka.record_log import KafkaLog  # noqa: PLC0415 - kafka is not needed to print help

    return KafkaLog(settings.broker)


def worker_client(slug: str, replica: str) -> str:
    """The name under which a worker is known to the broker."""
    return f"worker-{slug}-{replica}"


def open_blobs(settings: Settings) -> BlobStore:
    """The blob store in the data directory."""
    from functions.storage.blob_directory import BlobDirectory  # noqa: PLC0415

    return BlobDirectory(data_dir(settings) / "blobs")


def store_url(settings: Settings) -> str:
    """The store's SQLAlchemy URL: the configured one, else a SQLite file in the data directory."""
    return settings.store.url or f"sqlite:///{data_dir(settings) / STORE_FILE}"


def open_store(settings: Settings, clock: Clock | None = None) -> "Store":
    """The store at `store_url`."""
    from functions.runtime.system_clock import SystemClock  # noqa: PLC0415
    from functions.sql.sql_store import SqlStore  # noqa: PLC0415 - sqlalchemy is slow to import

    return SqlStore(
        store_url(settings),
        clock or SystemClock(),
        boot_id=settings.store.boot_id,
        keeps_prompts=settings.store.keep_prompts,
    )


def load_catalogue(settings: Settings) -> "Catalogue":
    """The catalogue at `settings.catalogue`, else the built-in one.

    Raises:
        StartupFailed: unreadable or rejected; every problem is listed with its key path.
    """
    from router_model.catalogue.loader import CatalogueRejected  # noqa: PLC0415
    from router_model.catalogue.loader import load_catalogue as load  # noqa: PLC0415

    try:
        if settings.catalogue:
            text = Path(settings.catalogue).read_text(encoding="utf-8")
        else:
            text = resources.files("functions.local").joinpath("catalogue.yaml").read_text("utf-8")
        return load(text)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise StartupFailed(f"cannot read the catalogue {settings.catalogue}: {reason}") from error
    except CatalogueRejected as error:
        raise StartupFailed(f"the catalogue is rejected: {error}") from error


def load_policies(catalogue: "Catalogue", settings: Settings) -> "dict[str, LoadedPolicy]":
    """Every routing policy that the catalogue names, by name.

    Raises:
        StartupFailed: one cannot be imported, or is no policy.
    """
    from router_model.routing.policy import PolicyUnusable  # noqa: PLC0415
    from router_model.routing.policy import load_policies as load  # noqa: PLC0415

    try:
        return load(catalogue, policy_dir(settings))
    except PolicyUnusable as error:
        raise StartupFailed(f"the catalogue is rejected: {error.path}: {error}") from error


def policy_dir(settings: Settings) -> Path | None:
    """Where modules of policies are looked for that are not installed; None: nowhere."""
    if settings.router.policy_dir:
        return Path(settings.router.policy_dir).expanduser().resolve()
    return Path(settings.catalogue).resolve().parent if settings.catalogue else None


def load_classifier(
    settings: Settings, on_fallback: Callable[[], None] = lambda: None
) -> "Classifier":
    """The classifier that routing uses: `settings.router.classifier`. Unusable weights are logged as an error, told to
    `on_fallback`, and the keyword rule stands in.

    Raises:
        StartupFailed: there is no such classifier.
    """
    from router_model.classifier.hybrid import MODES  # noqa: PLC0415
    from router_model.classifier.keyword_rules import KeywordClassifier  # noqa: PLC0415
    from router_model.classifier.weights import WeightsUnusable, load_learned  # noqa: PLC0415

    asked, where = settings.router.classifier, settings.router.weights
    if asked == "keyword":
        return KeywordClassifier()
    mode = next((mode for mode in MODES if mode == asked), None)
    if mode is None:
        known = ", ".join(("keyword", *MODES))
        raise StartupFailed(f"PICKSPIN_ROUTER_CLASSIFIER is {asked!r}; there are: {known}")
    directory = Path(where).expanduser() if where else None
    try:
        return load_learned(directory, mode=mode, threads=settings.router.encoder_threads)
    except WeightsUnusable as error:
        log.error("the keyword rule routes instead of %s: %s", asked, error)  # noqa: TRY400 - no trace
        on_fallback()
        return KeywordClassifier()
