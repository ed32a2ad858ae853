"""A recorder that has something to read and gets nowhere says so at its probe, and takes it back when it moves."""

import threading

import httpx

from events import names
from events.codecs.kafka_codec import to_record
from events.event import Event
from events.names import Topics
from events.timestamps import to_rfc3339
from functions.recorder.main import RecorderProcess
from functions.runtime.errors import StoreFailed
from functions.runtime.settings import BrokerSettings, ProbeSettings, Settings
from functions.runtime.shutdown import StopFlag
from functions.runtime.system_clock import SystemClock
from functions.sql.sql_store import SqlStore
from functions.testing.memory_broker import MemoryBlobs, MemoryLog
from tests.unit.recorder.test_the_process_runs_its_parts import until

TOPICS = Topics()


class ShutStore(SqlStore):
    """A store that takes no records while it is shut."""

    is_shut = True

    def record_batch(self, changes):
        if self.is_shut:
            raise StoreFailed("locked", is_transient=True)
        return super().record_batch(changes)


def test_a_recorder_that_cannot_record_is_not_ready_until_it_can():
    clock, log, stop = SystemClock(), MemoryLog(partitions=1), StopFlag()
    store = ShutStore("sqlite://", clock)
    for number in range(20):
        event = Event(
            id=f"r{number}",
            source="/producer",
            type=names.REQUEST,
            time=to_rfc3339(clock.now()),
            data=b'{"messages": [{"role": "user", "content": "hello"}]}',
        )
        log.store(to_record(event, topic=TOPICS.requests, key=event.id))
    process = RecorderProcess(
        settings=Settings(broker=BrokerSettings(stalled_s=0.2), probes=ProbeSettings(port=0)),
        store=store,
        log=log,
        blobs=MemoryBlobs(),
        clock=clock,
    )
    running = threading.Thread(target=process.run, args=(stop,))
    running.start()
    try:
        until(lambda: process.probe_port is not None)
        probes = f"http://127.0.0.1:{process.probe_port}"

        def status():
            return httpx.get(f"{probes}/readyz", trust_env=False).status_code

        until(lambda: status() == 503)
        shown = httpx.get(f"{probes}/metrics", trust_env=False).text
        assert f'pickspin_stalled_partitions{{group="{TOPICS.recorder_group}"}} 1.0' in shown
        store.is_shut = False
        until(lambda: status() == 200)
    finally:
        stop.set()
        running.join(10)
        store.close()
