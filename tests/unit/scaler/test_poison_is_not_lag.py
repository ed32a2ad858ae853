"""A real worker dead-letters a record that nobody can read: for the scaler the service is idle again."""

import asyncio
from typing import Any

from events.event import Record
from functions.worker import control_consumer
from tests.unit.scaler.conftest import Watch
from tests.unit.worker.conftest import SLUG, TOPICS, until
from tests.unit.worker.conftest import stand as worker_stand

__all__ = ["worker_stand"]


def test_a_record_that_was_dead_lettered_is_committed_and_so_no_lag(
    worker_stand: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(control_consumer, "_POLL_S", 0.01)

    async def scenario() -> None:
        async with worker_stand() as found:
            watch = Watch(catalogue=found.catalogue(), log=found.log)
            found.log.store(Record(topic=TOPICS.model(SLUG), value=b"\x00\x01", key=b"\xff"))
            before = watch.round(slug=SLUG)
            assert (before.lag, before.desired.is_needed) == (1, True)

            async with found.worker():
                await until(lambda: watch.round(0.6, slug=SLUG).lag == 0)
            assert len(found.log.records(TOPICS.dlq)) == 1
            assert not watch.decisions.get(SLUG).desired.is_needed
            assert not watch.round(301.0, slug=SLUG).is_active(holds_idle=True)

    asyncio.run(scenario())
