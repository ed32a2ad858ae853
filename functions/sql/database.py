"""One database behind the store's tables: transactions and the statements that differ between SQLite and PostgreSQL."""

import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import Connection, Table, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import (
    TimeoutError as PoolTimeoutError,
)
from sqlalchemy.pool import StaticPool

from events import ids
from functions.runtime.errors import StoreFailed
from functions.sql.tables import WRITE, open_engine

IN_LIST: Final = 400
"""Ids in one IN list; below every database's limit of bound parameters."""
MAX_KEY_CHARS: Final = 128
_TURNS: Final = 7_345_024
"""Our advisory locks for `take_turns`."""

T = TypeVar("T")


class Database:
    """Opened by URL; shared by the threads of one process.

    Raises:
        StartupFailed: see `tables.open_engine`.
    """

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url)
        # The in-memory database is one connection: its transactions take turns.
        is_shared = isinstance(self._engine.pool, StaticPool)
        self._turn: threading.RLock | None = threading.RLock() if is_shared else None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection in a read transaction. Raises StoreFailed."""
        with _typed_errors(), self._turn or nullcontext(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A connection in a write transaction, committed at the end, rolled back on an error. Raises StoreFailed."""
        with (
            _typed_errors(),
            self._turn or nullcontext(),
            self._engine.connect().execution_options(**{WRITE: True}) as connection,
            connection.begin(),
        ):
            yield connection

    def insert_new(self, connection: Connection, table: Table, rows: list[dict[str, Any]]) -> int:
        """Inserts the rows whose key is not there yet; the number inserted (for one row: 0 or 1)."""
        if not rows:
            return 0
        statement: Any
        if connection.dialect.name == "postgresql":
            statement = postgresql.insert(table).on_conflict_do_nothing()
        else:
            statement = sqlite.insert(table).on_conflict_do_nothing()
        # Without the option a driver that returns rows has no count of them.
        statement = statement.execution_options(preserve_rowcount=True)
        result = connection.execute(statement, rows if len(rows) > 1 else rows[0])
        return max(0, result.rowcount)

    def take_turns(self, connection: Connection, name: str) -> None:
        """From here to its end this transaction runs alone among those of the same name: what it counts stays so."""
        if connection.dialect.name == "postgresql":
            lock = select(func.pg_advisory_xact_lock(_TURNS, _to_signed(zlib.crc32(name.encode()))))
            connection.execute(lock)
        # SQLite has one writer at a time.

    def close(self) -> None:
        self._engine.dispose()


def _to_signed(number: int) -> int:
    """32 bits as PostgreSQL's `integer`."""
    return number - (1 << 32) if number >= 1 << 31 else number


@contextmanager
def _typed_errors() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        # The driver's text may quote values; its class is enough.
        cause = error.orig if isinstance(error, DBAPIError) else error
        is_transient = isinstance(error, OperationalError | InterfaceError | PoolTimeoutError) or (
            isinstance(error, DBAPIError) and error.connection_invalidated
        )
        raise StoreFailed(type(cause).__name__, is_transient=is_transient) from error


def key_text(text: str) -> str:
    """What a column of 128 characters holds of an id that others gave: the id, or a hash of a longer one."""
    return text if len(text) <= MAX_KEY_CHARS else ids.content_hash(text.encode())


def in_lists(keys: Iterable[T]) -> Iterator[list[T]]:
    """The keys in lists short enough for one statement."""
    some: list[T] = []
    for one in keys:
        some.append(one)
        if len(some) == IN_LIST:
            yield some
            some = []
    if some:
        yield some


def to_json(value: object) -> bytes:
    """JSON bytes of a column."""
    return msgspec.json.encode(value)


def json_object(raw: bytes | None) -> Mapping[str, Any]:
    """A column's JSON object; empty where there is none."""
    if not raw:
        return {}
    value: dict[str, Any] = msgspec.json.decode(raw, type=dict[str, Any])
    return value
