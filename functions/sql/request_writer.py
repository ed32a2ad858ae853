"""One transaction of recording: rows are locked, facts folded in, changed rows and new stream entries written back."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import Connection, bindparam, select, update

from events.event import Record
from events.names import State
from functions.ports.store import Change, RecordingResult, RequestRow
from functions.sql.body_references import BodyUse, find_body_use, note_uses, release_bodies
from functions.sql.database import Database, in_lists, key_text
from functions.sql.event_facts import read_fact, state_entry
from functions.sql.rows import (
    CHANGING,
    ENDING,
    LIFE_COLUMNS,
    identity,
    new_columns,
    pack_record,
    read_request_columns,
    select_columns,
)
from functions.sql.state_machine import Ended, Fact, Progressed, RequestColumns, Streamed, fold
from functions.sql.tables import event_ids, request_events, requests

MAX_ENTRIES: Final = 20_000
"""Entries of one request's event stream; further chunks are dropped (the terminal holds the whole answer)."""
_TERMINAL: Final = "terminal"
# Made once: building statements costs more than running them. Rows are locked in the order of their ids, so that two
# recorders never wait for each other in a ring; the names of the values that come with an update are what it sets.
_LOCK: Final = (
    select(*LIFE_COLUMNS)
    .where(requests.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(requests.c.id)
    .with_for_update()
)
_UPDATE: Final = update(requests).where(requests.c.id == bindparam("row_id"))


@dataclass(slots=True)
class _Tracked:
    life: RequestColumns
    before: RequestColumns
    cursor: int
    first_cursor: int
    is_terminal_moved: bool = False


class RequestWriter:
    """Lives as long as one write transaction."""

    def __init__(
        self,
        database: Database,
        connection: Connection,
        boot_id: str,
        now: datetime,
        *,
        keeps_prompts: bool = True,
    ) -> None:
        self._db = database
        self._connection = connection
        self._boot_id = boot_id
        self._now = now
        self._keeps_prompts = keeps_prompts
        self._tracked: dict[str, _Tracked] = {}
        self._entries: list[dict[str, Any]] = []
        self._sent: list[dict[str, Any]] = []
        self._uses: list[BodyUse] = []
        self._other_ends: list[tuple[str, Literal["state", "answer"]]] = []

    def accept(self, pairs: Sequence[tuple[RequestRow, Record | None]]) -> set[str]:
        """Makes requests known; returns the ids that were not known before."""
        self._load(row.id for row, _ in pairs)
        fresh = {row.id for row, record in pairs if self._make_known(row, record)}
        self._write()
        return fresh

    def apply(self, changes: Sequence[Change]) -> RecordingResult:
        """Folds the changes in."""
        known = [(change.row, change.record) for change in changes if change.row is not None]
        facts: list[Fact] = []
        for change in changes:
            fact = read_fact(change, self._now)
            facts += [] if fact is None else [fact]
            self._uses += filter(None, [_use(change, fact)])
        # Parts of a stream come on another topic than its terminal: what came in one poll goes in before it.
        facts.sort(key=lambda fact: isinstance(fact, Ended))
        self._load([*(row.id for row, _ in known), *(fact.request_id for fact in facts)])
        for row, record in known:
            self._make_known(row, record)
        ended = tuple(fact.request_id for fact in facts if self._fold(fact))
        self._write()
        return RecordingResult(ended=ended, other_ends=tuple(self._other_ends))

    def _load(self, wanted: Iterable[str]) -> None:
        ids = sorted(set(wanted))
        stubs = [new_columns(request_id, self._boot_id, self._now) for request_id in ids]
        if stubs:
            self._db.insert_new(self._connection, requests, stubs)
        for some in in_lists(ids):
            for row in self._connection.execute(_LOCK, {"ids": some}).mappings():
                life, cursor = read_request_columns(row), row["next_cursor"]
                self._tracked[life.id] = _Tracked(life, life, cursor, cursor)

    def _make_known(self, row: RequestRow, record: Record | None) -> bool:
        tracked = self._tracked[row.id]
        life = tracked.life
        values: dict[str, Any] = {"seen_at": self._now}
        if record is not None and record.offset >= 0:
            values |= {"log_partition": record.partition, "log_offset": record.offset}
        if not life.is_known:
            values |= identity(row, self._boot_id, self._now)
            if record is not None and self._keeps_record(_with_identity(life, row)):
                values["record"] = pack_record(record)
        elif life.state.is_terminal:
            return False
        known = _with_identity(life, row)
        if not known.keeps_result and life.state.is_terminal:
            values["result"] = None
        self._connection.execute(_UPDATE, {**values, "row_id": row.id})
        if life.is_known:
            return False
        tracked.life = tracked.before = known
        if row.event is not None and not known.is_forgotten:
            self._sent.append(
                {
                    "request_id": row.id,
                    "tenant": row.tenant,
                    "event_id": key_text(row.event.id),
                    "source": row.event.source,
                }
            )
        if not life.state.is_terminal:
            self._append(tracked, "state", State.ACCEPTED.value, state_entry(State.ACCEPTED))
        return True

    def _keeps_record(self, life: RequestColumns) -> bool:
        if not life.state.is_terminal:
            return not life.is_forgotten
        return self._keeps_prompts and life.is_stored and not life.is_forgotten

    def _fold(self, fact: Fact) -> bool:
        tracked = self._tracked[fact.request_id]
        before = tracked.life
        tracked.life = fold(before, fact)
        match fact:
            case Progressed() if not before.state.is_terminal:
                self._append(tracked, "state", fact.event_id, fact.data)
            case Streamed() if not before.state.is_terminal:
                self._append(tracked, "chunk", fact.event_id, fact.data)
            case Streamed() if before.state is State.COMPLETED and not self._has_entry(fact):
                # Read after the end of its own stream: it goes in before the end.
                tracked.is_terminal_moved = True
                self._append(tracked, "chunk", fact.event_id, fact.data)
            case Ended() if not before.state.is_terminal:
                entry = state_entry(fact.state, {"status": fact.status})
                self._append(tracked, _TERMINAL, _TERMINAL, entry)
                return True
            case Ended():
                self._compare(before, fact)
            case _:
                pass
        return False

    def _compare(self, life: RequestColumns, again: Ended) -> None:
        """Notes an end that comes after another one and says something else."""
        if again.state is not life.state:
            self._other_ends.append((life.id, "state"))
        elif life.state is State.COMPLETED:
            first = life.result or self._kept_result(life.id)
            if first is not None and first != again.result:
                self._other_ends.append((life.id, "answer"))

    def _kept_result(self, request_id: str) -> bytes | None:
        query = select(requests.c.result).where(requests.c.id == request_id)
        result: bytes | None = self._connection.execute(query).scalar()
        return result

    def _has_entry(self, fact: Streamed) -> bool:
        columns = request_events.c
        query = select(columns.cursor).where(columns.request_id == fact.request_id)
        query = query.where(columns.event_id == key_text(fact.event_id))
        return self._connection.execute(query).first() is not None

    def _append(self, tracked: _Tracked, kind: str, event_id: str, data: bytes) -> None:
        is_full = tracked.cursor > MAX_ENTRIES and kind == "chunk"
        if tracked.life.is_forgotten or is_full:
            return
        self._entries.append(
            {
                "request_id": tracked.life.id,
                "event_id": key_text(event_id),
                "cursor": tracked.cursor,
                "kind": kind,
                "data": data,
            }
        )
        tracked.cursor += 1

    def _write(self) -> None:
        self._db.insert_new(self._connection, request_events, self._entries)
        self._entries.clear()
        self._db.insert_new(self._connection, event_ids, self._sent)
        self._sent.clear()
        self._note_bodies()
        for tracked in self._tracked.values():
            if tracked.is_terminal_moved:
                self._move_terminal(tracked)
        changed = [t for t in self._tracked.values() if t.life != t.before]
        ended = [t for t in changed if t.life.finished_at != t.before.finished_at]
        going = [t for t in changed if t.life.finished_at == t.before.finished_at]
        self._update([select_columns(t.life, CHANGING) | _key(t) for t in going])
        last = [(t, select_columns(t.life, CHANGING + ENDING) | _key(t)) for t in ended]
        # Two statements at most: the names that come with an update are what it sets.
        self._update([values for t, values in last if self._keeps_record(t.life)])
        self._update(
            [{**values, "record": None} for t, values in last if not self._keeps_record(t.life)]
        )
        release_bodies(
            self._connection,
            [t.life.id for t, _ in last if not self._keeps_record(t.life)],
            only_bodies=True,
        )
        moved = [t for t in self._tracked.values() if t.cursor != t.first_cursor]
        self._update([{"next_cursor": t.cursor} | _key(t) for t in moved])
        for tracked in self._tracked.values():
            tracked.before, tracked.first_cursor = tracked.life, tracked.cursor

    def _note_bodies(self) -> None:
        uses: list[tuple[BodyUse, bool]] = []
        for use in self._uses:
            life = self._tracked[use.request_id].life
            is_kept = not life.is_forgotten if use.is_answer else self._keeps_record(life)
            uses.append((use, not is_kept))
        note_uses(self._db, self._connection, uses)
        self._uses.clear()

    def _move_terminal(self, tracked: _Tracked) -> None:
        columns = request_events.c
        self._connection.execute(
            update(request_events)
            .where(columns.request_id == tracked.life.id, columns.kind == _TERMINAL)
            .values(cursor=tracked.cursor)
        )
        tracked.cursor += 1

    def _update(self, rows: list[dict[str, Any]]) -> None:
        if rows:
            self._connection.execute(_UPDATE, rows)


def _use(change: Change, fact: Fact | None) -> BodyUse | None:
    """The bytes that the event of a change refers to."""
    if change.row is not None:
        return find_body_use(change.row.id, change.event, is_answer=False)
    if isinstance(fact, Ended):
        return find_body_use(fact.request_id, change.event, is_answer=True)
    return None


def _key(tracked: _Tracked) -> dict[str, Any]:
    return {"row_id": tracked.life.id}


def _with_identity(life: RequestColumns, row: RequestRow) -> RequestColumns:
    return replace(
        life,
        is_known=True,
        is_stored=row.is_stored,
        is_background=row.is_background,
        callback_id=row.callback_id,
        batch_id=row.batch_id,
    )
