import subprocess
import sys
from datetime import UTC, datetime

import pytest
from sqlalchemy import create_engine, text

from functions.runtime.errors import StartupFailed
from functions.runtime.system_clock import SystemClock
from functions.sql.sql_store import SqlStore
from tests.unit.store.conftest import POSTGRES, emptied

WRITER = """
import sys
from datetime import UTC, datetime, timedelta
from events.names import State
from functions.runtime.system_clock import SystemClock
from functions.sql.sql_store import SqlStore
from functions.ports.store import KeyUse, RequestRow

LIMIT = 40
url, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
store = SqlStore(url, SystemClock())
now = datetime.now(UTC)
fresh = 0
for number in range(count):
    own = RequestRow(id=f"{name}-{number}", tenant=name, operation="chat", state=State.ACCEPTED,
                     asked_model="auto", accepted_at=now, deadline=now + timedelta(hours=1))
    store.accept(own)
    shared = RequestRow(id=f"shared-{number}", tenant="shared", operation="chat", state=State.ACCEPTED,
                        asked_model="auto", accepted_at=now, deadline=now + timedelta(hours=1))
    fresh += store.accept(shared).kind == "new"
    keyed = RequestRow(id=f"{name}-k{number}", tenant="keyed", operation="chat", state=State.ACCEPTED,
                       asked_model="auto", accepted_at=now, deadline=now + timedelta(hours=1))
    store.accept(keyed, key=KeyUse(tenant="keyed", key=f"k{number}", body_hash="h", at=now), limit=LIMIT)
store.close()
print(fresh, flush=True)
"""
COUNT = 60


@pytest.mark.parametrize("kind", ["file", *(["postgresql"] if POSTGRES else [])])
def test_processes_that_start_at_once_make_one_schema_and_lose_no_write(tmp_path, kind):
    url = f"sqlite:///{tmp_path / 'store.sqlite3'}" if kind == "file" else emptied(POSTGRES)
    names = ("a", "b", "c")
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url, name, str(COUNT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    try:
        for writer in writers:
            assert writer.stdout.readline() == "ready\n"
        for writer in writers:
            writer.stdin.write("go\n")
            writer.stdin.flush()
        outputs = [writer.communicate(timeout=50)[0] for writer in writers]
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    store = SqlStore(url, SystemClock())
    assert [store.unfinished(tenant=name) for name in names] == [COUNT] * 3
    # Each shared id was new to exactly one of them.
    assert store.unfinished(tenant="shared") == COUNT
    assert sum(int(output) for output in outputs) == COUNT
    # Each key made one request, whoever came first, up to the tenant's limit.
    assert store.unfinished(tenant="keyed") == 40
    store.close()


def test_a_store_made_by_a_newer_program_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path / 'store.sqlite3'}"
    SqlStore(url, SystemClock()).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE schema_version SET version = 99"))
    engine.dispose()
    with pytest.raises(StartupFailed, match="newer program"):
        SqlStore(url, SystemClock())


@pytest.mark.parametrize(
    "url", ["nonsense", "sqlite:////no/such/folder/x.sqlite3", "oddbase://user:hunter2@host/x"]
)
def test_a_store_that_cannot_be_opened_says_so_without_its_password(url):
    with pytest.raises(StartupFailed) as failure:
        SqlStore(url, SystemClock())
    assert "hunter2" not in str(failure.value)


def test_what_was_written_is_there_after_opening_again(tmp_path, facts):
    url = f"sqlite:///{tmp_path / 'store.sqlite3'}"
    first = SqlStore(url, SystemClock())
    first.accept(facts.row(accepted_at=datetime(2026, 1, 1, 0, 0, 0, 123456, UTC)))
    first.close()
    second = SqlStore(url, SystemClock())
    assert second.request("r1").accepted_at == datetime(2026, 1, 1, 0, 0, 0, 123456, UTC)
    second.close()


def test_rows_of_an_earlier_broker_are_lost_to_the_next(tmp_path, facts, clock):
    url = f"sqlite:///{tmp_path / 'store.sqlite3'}"
    first = SqlStore(url, clock, boot_id="one")
    first.accept(facts.row("old"))
    first.accept(facts.row("done"))
    first.record_batch([facts.completed("done")])
    assert list(first.lost()) == []
    first.close()
    second = SqlStore(url, clock, boot_id="two")
    second.accept(facts.row("new"))
    assert [row.id for row in second.lost()] == ["old"]
    second.close()
    durable = SqlStore(url, clock)
    assert list(durable.lost()) == []
    durable.close()
