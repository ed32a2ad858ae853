"""What `pickspin up` checks and writes before it starts anything: host, port, lock, catalogue."""

import fcntl
import ipaddress
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from functions import factories
from functions.backends.server_arguments import check_local_arguments
from functions.local.settings_checks import check_model_file, check_model_url
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import IngressSettings, Settings
from functions.storage.private_files import close_to_others, make_private_file
from router_model.catalogue.loader import CatalogueRejected, dump_catalogue
from router_model.catalogue.merge import with_demo_fleet, with_model
from router_model.catalogue.model import Catalogue

BrokerChoice = Literal["embedded", "kafka", "external"]
LOCK_FILE: Final = "up.lock"
CATALOGUE_FILE: Final = "catalogue.effective.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """What the command line of `pickspin up` says beyond settings."""

    broker: BrokerChoice = "embedded"
    models: tuple[str, ...] = ()
    """`name=path.gguf` or `name=http://host/v1`."""
    fleet: str | None = None
    """`demo`, or None."""
    is_json: bool = False


def check_exposure(settings: IngressSettings) -> None:
    """Without keys only this machine may call.

    Raises:
        StartupFailed: the host is not loopback and no keys are configured.
    """
    if is_loopback(settings.host) or settings.api_keys:
        return
    raise StartupFailed(
        f"refusing to serve on {settings.host} without keys: set PICKSPIN_API_KEYS=tenant=key,... "
        "or stay on 127.0.0.1"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address; a name other than `localhost` is taken as reachable."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def claim_port(host: str, port: int, *, remedy: str = "--port or PICKSPIN_PORT") -> int:
    """The port to serve on: `port` when it is free, or any free one for 0.

    Raises:
        StartupFailed: the port is taken, or the host is not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen(1)
            chosen: int = probe.getsockname()[1]
            return chosen
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StartupFailed(
            f"cannot serve on {host} port {port} ({reason}): choose another with {remedy}"
        ) from error


@contextmanager
def hold_lock(directory: Path) -> Iterator[None]:
    """Holds the data directory for this process; the kernel lets go when the process ends, however it ends.

    Raises:
        StartupFailed: another `pickspin up` holds it.
    """
    path = directory / LOCK_FILE
    if path.exists():
        close_to_others(directory)  # it is ours, and of a time when folders were open
    with make_private_file(path).open("a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read(32).strip() or "unknown"
            raise StartupFailed(
                f"another `pickspin up` (pid {holder}) uses {directory}: "
                "stop it, or give this one its own --data-dir"
            ) from error
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def find_lock_holder(path: Path) -> str | None:
    """The pid that holds that lock. None: nobody does, or there is no lock."""
    try:
        with path.open(encoding="ascii") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return lock.read(32).strip() or "unknown"
    except OSError:
        pass
    return None


def apply_up_defaults(settings: Settings, *, is_bootstrap_given: bool) -> Settings:
    """The settings that `pickspin up` goes by, where the command line says nothing: its own broker unless one is named,
    the directory in full. Ports that are 0 are chosen at the start.
    """
    replace = msgspec.structs.replace
    kind: Literal["kafka", "embedded"] = "kafka" if is_bootstrap_given else "embedded"
    bootstrap = settings.broker.bootstrap if is_bootstrap_given else ""
    return replace(
        settings,
        data_dir=str(factories.data_path(settings)),
        broker=replace(settings.broker, kind=kind, bootstrap=bootstrap),
    )


def effective_catalogue(settings: Settings, options: UpOptions) -> Catalogue:
    """The configured catalogue, with the command line's models and fleet added.

    Raises:
        StartupFailed: unreadable, rejected, its policy cannot be used, or a model's file does not exist.
    """
    catalogue = factories.load_catalogue(settings)
    try:
        for text in options.models:
            name, source = split_model(text)
            catalogue = with_model(catalogue, name, source)
        effective = with_demo_fleet(catalogue) if options.fleet == "demo" else catalogue
    except CatalogueRejected as error:
        raise StartupFailed(f"--model or --fleet does not fit the catalogue: {error}") from error
    factories.load_policies(effective, settings)
    for service in effective.services:
        if service.enabled:
            check_local_arguments(service)
    return effective


def split_model(text: str) -> tuple[str, str]:
    """`name=source` in two; the path of a file is made absolute.

    Raises:
        StartupFailed: not of that form, or the file is not there.
    """
    name, separator, source = text.partition("=")
    if not separator or not name or not source:
        raise StartupFailed(f"--model {text}: write name=path.gguf or name=http://host/v1")
    if source.startswith(("http://", "https://")):
        check_model_url(name, source)
        return name, source
    path = Path(source).expanduser().resolve()
    check_model_file(name, path)
    return name, str(path)


def write_catalogue(catalogue: Catalogue, directory: Path) -> Path:
    """Writes the effective catalogue where every child reads it; returns its path."""
    path = directory / CATALOGUE_FILE
    new = path.with_name(f"{path.name}.new")
    make_private_file(new).write_text(dump_catalogue(catalogue), encoding="utf-8")
    return new.replace(path)
