import json
import threading
import time
from datetime import timedelta

import httpx
import pytest

from events import names
from events.codecs.kafka_codec import to_record
from events.event import Event
from events.names import State, Topics
from events.timestamps import to_rfc3339
from functions.recorder.main import RecorderProcess
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import ProbeSettings, Settings, StoreSettings
from functions.runtime.shutdown import STUCK_S, LoopHealth, StopFlag
from functions.runtime.system_clock import SystemClock
from functions.sql.sql_store import SqlStore
from functions.testing.memory_broker import MemoryBlobs, MemoryLog
from functions.worker.early_listener import open_listener

TOPICS = Topics()


def until(condition, seconds=40.0):
    pause = threading.Event()
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        pause.wait(0.01)


def test_a_foreign_request_for_a_service_that_never_wakes_expires_within_two_seconds():
    clock, log, stop = SystemClock(), MemoryLog(partitions=2), StopFlag()
    store = SqlStore("sqlite://", clock)
    process = RecorderProcess(
        settings=Settings(store=StoreSettings(reap_s=0.05), probes=ProbeSettings(port=0)),
        store=store,
        log=log,
        blobs=MemoryBlobs(),
        clock=clock,
    )
    outcome = []
    running = threading.Thread(target=lambda: outcome.append(process.run(stop)))
    running.start()
    try:
        deadline = clock.now() + timedelta(seconds=0.5)
        body = {"messages": [{"role": "user", "content": "hello"}]}
        event = Event(
            id="r1",
            source="/producer",
            type=names.REQUEST,
            time=to_rfc3339(clock.now()),
            data=json.dumps(body).encode(),
            extensions={names.EXPIRY_TIME: to_rfc3339(deadline)},
        )
        record = to_record(event, topic=TOPICS.requests, key="r1")
        log.appender(client="t").append(record).result(0)

        def is_expired():
            found = store.find_sent("default", "r1")
            return found is not None and store.request(found).state is State.EXPIRED

        until(is_expired)
        probes = f"http://127.0.0.1:{process.probe_port}"
        assert httpx.get(f"{probes}/healthz", trust_env=False).status_code == 200
        assert (
            'pickspin_reaped_total{state="' in httpx.get(f"{probes}/metrics", trust_env=False).text
        )
        assert clock.now() - deadline < timedelta(seconds=2)
    finally:
        stop.set()
        running.join(10)
        store.close()
    assert outcome == [0]


def test_a_part_that_dies_ends_the_process_with_a_status():
    class BrokenLog(MemoryLog):
        def group(self, **options):
            raise RuntimeError("no such group")

    clock = SystemClock()
    store = SqlStore("sqlite://", clock)
    process = RecorderProcess(
        settings=Settings(), store=store, log=BrokenLog(), blobs=MemoryBlobs(), clock=clock
    )
    assert process.run(StopFlag()) == 1
    store.close()


def test_a_part_that_does_not_look_up_any_more_makes_the_process_not_live(monkeypatch):
    parts = LoopHealth()
    one, other = parts.watch(StopFlag(), 2)
    assert parts.is_live()
    later_s = time.monotonic() + STUCK_S + 1
    monkeypatch.setattr(time, "monotonic", lambda: later_s)
    assert not one.is_set()  # looked at again
    assert not parts.is_live()
    assert not other.is_set()
    assert parts.is_live()
    parts.fail()
    assert not parts.is_live()


def test_a_probe_port_that_is_taken_stops_the_start():
    with open_listener("127.0.0.1", 0) as taken:
        process = RecorderProcess(
            settings=Settings(probes=ProbeSettings(port=taken.getsockname()[1])),
            store=SqlStore("sqlite://", SystemClock()),
            log=MemoryLog(),
            blobs=MemoryBlobs(),
            clock=SystemClock(),
        )
        with pytest.raises(StartupFailed, match="PICKSPIN_PROBES_PORT"):
            process.run(StopFlag())
