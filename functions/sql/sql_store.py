"""The store on SQLAlchemy Core: a SQLite file by default, PostgreSQL by URL, `sqlite://` in memory for tests."""

from functions.ports.clock import Clock
from functions.sql.batches import SqlBatches
from functions.sql.body_references import SqlBodies
from functions.sql.callbacks import SqlCallbacks
from functions.sql.database import Database
from functions.sql.feedback import SqlFeedback
from functions.sql.requests import SqlRequests


class SqlStore(SqlRequests, SqlBodies, SqlCallbacks, SqlBatches, SqlFeedback):
    """Implements `functions.ports.store.Store`: thread-safe, every method one transaction, for
    several processes at once.

    `url` is a SQLAlchemy URL. `boot_id` names the life of a volatile broker (empty: the broker is durable); rows that
    were accepted under another one are `lost`. `keeps_prompts` False: what a request asked goes with its end.

    Raises:
        StartupFailed: the URL cannot be used, the database is out of reach, or its schema is newer than this program.
    """

    def __init__(
        self, url: str, clock: Clock, *, boot_id: str = "", keeps_prompts: bool = True
    ) -> None:
        database = Database(url)
        SqlRequests.__init__(self, database, clock, boot_id, keeps_prompts=keeps_prompts)
        SqlBodies.__init__(self, database)
        SqlCallbacks.__init__(self, database)
        SqlBatches.__init__(self, database, clock)
        SqlFeedback.__init__(self, database)

    def close(self) -> None:
        self._db.close()
