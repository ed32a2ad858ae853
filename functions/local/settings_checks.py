"""Every setting of every process is looked at by `pickspin up` before its first process: what cannot work is said at
once, all together, and not by a process that ends again and again.
"""

import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from functions import factories
from functions.callbacks.retry_schedule import parse_schedule
from functions.ingress.api_keys import ApiKeys
from functions.ingress.cors import check_origins
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import BrokerSettings, IngressSettings, Settings

SQLITE_HEAD: Final = b"SQLite format 3\0"
GGUF_HEAD: Final = b"GGUF"
_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:,/]+):(\d{1,5})")
_MAX_PORT: Final = 65535
DATABASE_PORT: Final = 5432
"""PostgreSQL's."""
REACH_S: Final = 5.0


def check_settings(settings: Settings) -> None:
    """Nothing is started, and nothing written but the store of a URL that is given.

    Raises:
        StartupFailed: one line, which names every variable that is at fault.
    """
    problems = [
        *_catch_problem(lambda: _check_ingress(settings.ingress)),
        *_catch_problem(lambda: parse_schedule(settings.callbacks.schedule_s)),
        *broker_problems(settings.broker),
        *_weights_problems(settings.router.weights),
        *_catch_problem(lambda: _check_store(settings)),
    ]
    if problems:
        raise StartupFailed("; ".join(problems))


def _check_ingress(settings: IngressSettings) -> None:
    check_origins(settings, has_keys=bool(ApiKeys.parse(settings.api_keys)))


def broker_problems(broker: BrokerSettings) -> Iterator[str]:
    """What of the broker's settings no client could use."""
    for part in broker.bootstrap.split(","):
        address = _ADDRESS.fullmatch(part.strip())
        if address is None or not 0 < int(address.group(2)) <= _MAX_PORT:
            yield f"PICKSPIN_BROKER_BOOTSTRAP (--bootstrap) must be host:port,..., not {part!r}"
    for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
        path = getattr(broker, name)
        if path and not Path(path).is_file():
            yield f"PICKSPIN_BROKER_{name.upper()}: there is no file {path}"
    if broker.security_protocol.startswith("SASL") and not broker.sasl_mechanism:
        yield (
            f"PICKSPIN_BROKER_SECURITY_PROTOCOL is {broker.security_protocol}: "
            "PICKSPIN_BROKER_SASL_MECHANISM must say which"
        )


def check_model_file(name: str, path: Path) -> None:
    """Raises StartupFailed where the file is not there, or no GGUF file."""
    try:
        with path.open("rb") as file:
            head = file.read(len(GGUF_HEAD))
    except OSError:
        raise StartupFailed(f"--model {name}: there is no file {path}") from None
    if head != GGUF_HEAD:
        raise StartupFailed(f"--model {name}: {path} is not a GGUF file")


def check_model_url(name: str, url: str) -> None:
    """Raises StartupFailed where the URL has no host, or a port that there is not."""
    try:
        parts = urlsplit(url)
        is_good = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_good = False
    if not is_good:
        raise StartupFailed(f"--model {name}: {url} has no host, or no such port")


def _weights_problems(where: str) -> Iterator[str]:
    # The shipped ones are there. A folder that was named and cannot be used is a mistake, not a reason to fall back.
    if not where:
        return
    from router_model.classifier.weights import WeightsUnusable, read_manifest  # noqa: PLC0415 - slow to import

    try:
        read_manifest(Path(where).expanduser())
    except WeightsUnusable as error:
        yield f"PICKSPIN_ROUTER_WEIGHTS: {error}"


def _check_store(settings: Settings) -> None:
    if settings.store.url:
        _reach_database(settings.store.url)
        try:
            factories.open_store(settings).close()
        except StartupFailed as error:
            raise StartupFailed(f"PICKSPIN_STORE_URL: {error}") from error
        return
    # Our own file: its head is enough, and spares the library, which is slow to import.
    path = factories.data_path(settings) / factories.STORE_FILE
    if path.is_file() and (head := _head(path)) and head != SQLITE_HEAD:
        raise StartupFailed(
            f"{path} is not a SQLite database: move it away, or name another with PICKSPIN_STORE_URL"
        )


def _reach_database(url: str) -> None:
    """Raises StartupFailed if nothing accepts connections there. A driver may take minutes to
    notice.
    """
    try:
        place = urlsplit(url)
        host, port = place.hostname, place.port or DATABASE_PORT
    except ValueError:
        return  # what the URL is then is for the library to say
    if not host:
        return
    try:
        socket.create_connection((host, port), REACH_S).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise StartupFailed(
            f"PICKSPIN_STORE_URL: nobody answers at {host} port {port} ({reason})"
        ) from error


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(SQLITE_HEAD))


def _catch_problem(check: Callable[[], object]) -> Iterator[str]:
    try:
        check()
    except StartupFailed as error:
        yield str(error)
