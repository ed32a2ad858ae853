"""Stores, rows and events for the tests of the store."""

import os
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import create_engine, text

from events import builders
from events.event import Record
from events.names import State
from events.payloads import CancelData, PickspinData, ProgressData
from events.requests import Origin
from functions.ports.store import Change, RequestRow
from functions.sql.sql_store import SqlStore
from functions.testing.fake_clock import FakeClock

START = datetime(2026, 1, 1, tzinfo=UTC)


class Facts:
    """Builds rows and changes about requests, as the recorder does."""

    def __init__(self, clock):
        self.clock = clock

    def row(self, request_id="r1", **fields):
        now = self.clock.now()
        values = {
            "id": request_id,
            "tenant": "default",
            "operation": "chat",
            "state": State.ACCEPTED,
            "asked_model": "auto",
            "accepted_at": now,
            "deadline": now + timedelta(seconds=60),
            "is_background": True,
        }
        return RequestRow(**{**values, **fields})

    def record(self, offset=-1, partition=None):
        return Record(
            topic="infer.requests",
            key=b"k",
            value=b'{"messages":[]}',
            headers=(("ce_id", b"r1"),),
            offset=offset,
            partition=partition,
        )

    def requested(self, request_id="r1", offset=0, **fields):
        origin = Origin(request_id=request_id)
        event = builders.build_cancel(
            origin, CancelData(reason="duplicate"), source="/t", now=self.clock.now()
        )
        return Change(
            event=event, record=self.record(offset, 0), row=self.row(request_id, **fields)
        )

    def progressed(self, state, request_id="r1", attempt=0):
        data = ProgressData(state=state, service="slug", model="model", attempt=attempt)
        event = builders.build_progress(
            Origin(request_id=request_id), data, source="/t", now=self.clock.now()
        )
        return Change(event=event)

    def streamed(self, sequence, request_id="r1", generation="g1", attempt=1):
        event = builders.build_chunk(
            Origin(request_id=request_id),
            [{"n": sequence}],
            generation=generation,
            sequence=sequence,
            attempt=attempt,
            service="slug",
            now=self.clock.now(),
        )
        return Change(event=event)

    def completed(self, request_id="r1", text="hello", generation="g1"):
        response = {"text": text, "usage": {"prompt_tokens": 3, "completion_tokens": 5}}
        pickspin = PickspinData(
            request_id=request_id,
            state="completed",
            service="slug",
            model="model",
            attempt=1,
            cost=builders.Cost(usd=0.25),
        )
        event = builders.build_completed(
            Origin(request_id=request_id),
            response,
            pickspin,
            source="/t",
            generation=generation,
            now=self.clock.now(),
        )
        return Change(event=event)

    def failed(self, code="backend_failed", status=502, request_id="r1"):
        failure = builders.Failure(code=code, message="m", type="server_error", status=status)
        event = builders.build_failed(
            Origin(request_id=request_id), failure, source="/t", now=self.clock.now()
        )
        return Change(event=event)

    def cancel(self, reason="client", request_id="r1"):
        event = builders.build_cancel(
            Origin(request_id=request_id),
            CancelData(reason=reason),
            source="/t",
            now=self.clock.now(),
        )
        return Change(event=event)


@pytest.fixture
def clock():
    return FakeClock(START)


@pytest.fixture
def facts(clock):
    return Facts(clock)


POSTGRES = os.environ.get("TEST_POSTGRES_URL")
"""A database that tests may empty; where it is set, every test of a store runs on PostgreSQL too."""


def emptied(url):
    """The URL of a PostgreSQL database, its tables dropped."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return url


@pytest.fixture(params=["memory", "file", *(["postgresql"] if POSTGRES else [])])
def url(request, tmp_path):
    if request.param == "postgresql":
        return emptied(POSTGRES)
    return "sqlite://" if request.param == "memory" else f"sqlite:///{tmp_path / 'store.sqlite3'}"


@pytest.fixture
def store(url, clock):
    found = SqlStore(url, clock)
    yield found
    found.close()
