"""Tables of the store, and how they come to be: idempotently, and safely when several processes start at once."""

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Dialect,
    Engine,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    create_engine,
    event,
    insert,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from functions.runtime.errors import StartupFailed
from functions.storage.private_files import close_to_others, make_private_file

SCHEMA_VERSION: Final = 1
"""Grows when an older program could not use the database any more; what is only added, tables and indexes, does not
change it."""
BUSY_TIMEOUT_S: Final = 10.0
"""How long a writer waits for another process's transaction."""
WRITE: Final = "pickspin_write"
"""Execution option of a connection that is going to write."""
_START_WAIT_S: Final = 15.0
_ADVISORY_LOCK: Final = 7_345_023
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """Aware UTC time as microseconds since 1970: compares and indexes alike on every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        return None if value is None else _EPOCH + timedelta(microseconds=int(value))


metadata = MetaData()

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

settings_table = Table(
    "store_values",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

requests = Table(
    "requests",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("tenant", String(128), nullable=False),
    Column("operation", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("asked_model", Text, nullable=False),
    Column("accepted_at", Instant, nullable=False),
    Column("deadline", Instant, nullable=False),
    Column("model", Text),
    Column("service", String(128)),
    Column("routed_at", Instant),
    Column("started_at", Instant),
    Column("finished_at", Instant),
    Column("attempt", Integer, nullable=False, default=0),
    Column("is_background", Boolean, nullable=False, default=False),
    Column("is_stored", Boolean, nullable=False, default=True),
    Column("callback_id", String(128)),
    Column("batch_id", String(128)),
    Column("reply_topic", String(249)),
    Column("reply_partition", Integer),
    Column("reply_epoch", String(128)),
    Column("cancel_reason", String(32)),
    Column("status", Integer),
    Column("result", LargeBinary),
    Column("usage_prompt", BigInteger),
    Column("usage_completion", BigInteger),
    Column("cost_usd", Float),
    Column("decision", LargeBinary),
    Column("meta", LargeBinary),
    # What only the recorder needs: is the request itself known, where does its record lie, when was it last seen.
    Column("is_known", Boolean, nullable=False),
    Column("is_forgotten", Boolean, nullable=False, default=False),
    Column("boot_id", String(64), nullable=False, default=""),
    Column("record", LargeBinary),
    Column("log_partition", Integer),
    Column("log_offset", BigInteger),
    Column("seen_at", Instant, nullable=False),
    Column("next_cursor", BigInteger, nullable=False, default=1),
)
_OPEN: Final = requests.c.finished_at.is_(None)
Index("requests_open", requests.c.deadline, sqlite_where=_OPEN, postgresql_where=_OPEN)
Index("requests_open_tenant", requests.c.tenant, sqlite_where=_OPEN, postgresql_where=_OPEN)
Index("requests_tenant", requests.c.tenant, requests.c.accepted_at)
Index("requests_finished", requests.c.finished_at)
Index("requests_batch", requests.c.batch_id)

request_events = Table(
    "request_events",
    metadata,
    Column("request_id", String(128), primary_key=True),
    Column("event_id", String(128), primary_key=True),
    Column("cursor", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("data", LargeBinary, nullable=False),
)
Index("request_events_cursor", request_events.c.request_id, request_events.c.cursor)

# Bodies and answers that travel by reference. Bytes may be shared: they go when every request has released them.
request_bodies = Table(
    "request_bodies",
    metadata,
    Column("request_id", String(128), primary_key=True),
    Column("ref", String(80), primary_key=True),
    Column("is_answer", Boolean, primary_key=True),
    Column("is_released", Boolean, nullable=False),
)
_RELEASED: Final = request_bodies.c.is_released
Index("request_bodies_ref", request_bodies.c.ref)
Index(
    "request_bodies_released",
    request_bodies.c.ref,
    sqlite_where=_RELEASED,
    postgresql_where=_RELEASED,
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("body_hash", String(128), nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("claimed_at", Instant, nullable=False),
)

# What senders of events know their requests by: within a tenant, one id from two sources is two requests.
event_ids = Table(
    "event_ids",
    metadata,
    Column("request_id", String(128), primary_key=True),
    Column("tenant", String(128), nullable=False),
    Column("event_id", String(128), nullable=False),
    Column("source", Text, nullable=False),
)
Index("event_ids_sent", event_ids.c.tenant, event_ids.c.event_id)

callback_targets = Table(
    "callback_targets",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("tenant", String(128), nullable=False),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("is_ad_hoc", Boolean, nullable=False),
    Column("is_disabled", Boolean, nullable=False),
)
Index("callback_targets_tenant", callback_targets.c.tenant, callback_targets.c.id)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("request_id", String(128), nullable=False, unique=True),
    Column("target_id", String(128), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("state", String(16), nullable=False),
    Column("last_outcome", Text),
    Column("leased_until", Instant),
)
Index("deliveries_due", deliveries.c.state, deliveries.c.due_at)
Index("deliveries_target", deliveries.c.target_id, deliveries.c.leased_until)

files = Table(
    "files",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("tenant", String(128), nullable=False),
    Column("filename", Text, nullable=False),
    Column("purpose", String(64), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("ref", Text, nullable=False),
)
Index("files_tenant", files.c.tenant, files.c.created_at)

# Of files that are deleted by themselves.
file_expiries = Table(
    "file_expiries",
    metadata,
    Column("file_id", String(128), primary_key=True),
    Column("expires_at", Instant, nullable=False),
)
Index("file_expiries_due", file_expiries.c.expires_at)

# Where in the list a file stood that was deleted: whoever deletes what a page showed asks for the next one after it.
deleted_files = Table(
    "deleted_files",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("tenant", String(128), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("deleted_at", Instant, nullable=False),
)
Index("deleted_files_old", deleted_files.c.deleted_at)

batches = Table(
    "batches",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("tenant", String(128), nullable=False),
    Column("endpoint", String(64), nullable=False),
    Column("input_file_id", String(128), nullable=False),
    Column("completion_window", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("deadline", Instant, nullable=False),
    Column("metadata", LargeBinary),
    Column("total", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("submitted", Integer, nullable=False),
    Column("output_file_id", String(128)),
    Column("error_file_id", String(128)),
    Column("errors", LargeBinary),
    Column("finished_at", Instant),
    Column("cancelled_at", Instant),
)
Index("batches_tenant", batches.c.tenant, batches.c.created_at)

feedback = Table(
    "feedback",
    metadata,
    Column("request_id", String(128), primary_key=True),
    Column("source", String(16), primary_key=True),
    Column("judge", String(128), primary_key=True),
    Column("model", String(256), primary_key=True),
    Column("score", Float, nullable=False),
    Column("at", Instant, nullable=False),
    Column("comment", Text),
)

# How many requests each service had in each hour since 1970: outlives the requests, for prewarming by habit.
arrivals = Table(
    "arrivals",
    metadata,
    Column("service", String(128), primary_key=True),
    Column("hour", BigInteger, primary_key=True),
    Column("count", BigInteger, nullable=False),
)


def open_engine(url: str) -> Engine:
    """An engine for `url` with the schema in place.

    Raises:
        StartupFailed: bad URL, missing driver, database out of reach, or a schema newer than this program.
    """
    try:
        engine = _make_engine(url)
        _prepare(engine)
    except ModuleNotFoundError as error:
        raise StartupFailed(
            f"the store's URL cannot be used: there is no module {error.name} in this environment"
        ) from error
    except ArgumentError as error:
        raise StartupFailed(f"the store's URL cannot be used: {error}") from error
    except SQLAlchemyError as error:
        raise StartupFailed(f"the store {_describe_error(url, error)}") from error
    return engine


def _describe_error(url: str, error: SQLAlchemyError) -> str:
    """Which store cannot be opened, and why; a server's words may carry a password, SQLite's never do."""
    cause = getattr(error, "orig", None) or error
    why = str(cause) if url.startswith("sqlite") else type(cause).__name__
    return f"{make_url(url).render_as_string()} cannot be opened ({why})"


def _make_engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True, pool_size=8, max_overflow=8)
    is_memory = url in {"sqlite://", "sqlite:///:memory:"}
    if is_memory:
        engine = create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
    else:
        engine = create_engine(url, pool_size=8, max_overflow=8)
        _make_private(engine.url.database)
    event.listen(engine, "connect", _on_sqlite_connect)
    event.listen(engine, "begin", _on_sqlite_begin)
    return engine


def _make_private(database: str | None) -> None:
    """The database is its owner's alone; SQLite gives what it writes beside it the same rights."""
    if not database or database.startswith("file:"):
        return
    path = Path(database)
    # A folder that is not there, or read only, is told by opening it.
    with suppress(OSError):
        make_private_file(path)
        for beside in ("-wal", "-shm"):
            close_to_others(path.with_name(path.name + beside))


def _on_sqlite_connect(connection: Any, _record: object) -> None:
    # The driver's own implicit BEGIN would start every transaction as a reader and fail it when it upgrades.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()


def _on_sqlite_begin(connection: Connection) -> None:
    is_write = connection.get_execution_options().get(WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")


def _prepare(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        _use_wal(engine)
    if _version(engine) == SCHEMA_VERSION and _is_complete(engine):
        return
    with engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        metadata.create_all(connection)
        for table in metadata.tables.values():
            # Tables that were there before get the indexes that are new.
            for index in table.indexes:
                index.create(connection, checkfirst=True)
        version = connection.execute(select(schema_version.c.version)).scalar()
        if version is None:
            connection.execute(insert(schema_version).values(version=SCHEMA_VERSION))


def _version(engine: Engine) -> int | None:
    with engine.connect() as connection:
        if not inspect(connection).has_table("schema_version"):
            return None
        version = connection.execute(select(schema_version.c.version)).scalar()
    if version is not None and version > SCHEMA_VERSION:
        raise StartupFailed(
            f"the store has schema version {version}, this program knows {SCHEMA_VERSION}: use a newer program"
        )
    return version


def _is_complete(engine: Engine) -> bool:
    """Whether every table and index is there."""
    with engine.connect() as connection:
        inspector = inspect(connection)
        if not metadata.tables.keys() <= set(inspector.get_table_names()):
            return False
        return all(
            {index.name for index in table.indexes}
            <= {index["name"] for index in inspector.get_indexes(name)}
            for name, table in metadata.tables.items()
        )


def _use_wal(engine: Engine) -> None:
    # Switching to WAL needs the file alone and does not honour the busy timeout: several starting processes retry.
    give_up = time.monotonic() + _START_WAIT_S
    while True:
        try:
            connection = engine.raw_connection()
        except engine.dialect.loaded_dbapi.Error as error:
            raise OperationalError("connect", None, error) from error
        try:
            cursor = connection.cursor()
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.close()
        except engine.dialect.loaded_dbapi.OperationalError as error:
            if time.monotonic() > give_up:
                raise OperationalError("PRAGMA journal_mode", None, error) from error
            time.sleep(0.02)
        else:
            return
        finally:
            connection.close()
