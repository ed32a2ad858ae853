"""The source against a real socket: kept connections, closed ones, refusals, a router that is away."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from events.codecs.kafka_codec import to_record
from events.event import Event, Record
from events.names import Topics
from functions.router.kafka_source import NotTaken, RouterAddress, Source
from functions.router.publisher import RouterPublisher
from functions.router.refusals import ReplyRules
from functions.runtime.errors import AppendFailed
from functions.runtime.telemetry import Metrics
from functions.testing.fake_clock import FakeClock
from functions.testing.memory_broker import MemoryLog


class Stub(ThreadingHTTPServer):
    """Answers `statuses` in turn, then 204; counts connections; closes each when told to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses: list[int] = []
        self.is_closing = False
        self.connections = 0
        self.seen: list[tuple[dict[str, str], bytes]] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stub

    def setup(self) -> None:
        self.server.connections += 1
        super().setup()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append((dict(self.headers.items()), body))
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 204)
        self.send_header("content-length", "0")
        self.end_headers()
        # Closed without saying so: what a kept connection meets after a restart of the router.
        self.close_connection = self.server.is_closing

    def log_message(self, *args: object) -> None:
        return None


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


def publisher_of(log: MemoryLog) -> RouterPublisher:
    return RouterPublisher(
        appender=log.appender(client="s"),
        rules=ReplyRules(topics=Topics("")),
        clock=FakeClock(),
        metrics=Metrics(),
    )


@pytest.fixture
def source(stub: Stub, log: MemoryLog) -> Iterator[Source]:
    address = RouterAddress(host="127.0.0.1", port=stub.server_address[1], timeout_s=5.0)
    found = Source(address, publisher_of(log), in_flight=2)
    yield found
    found.close()
    connection = getattr(found._local, "connection", None)
    if connection is not None:
        connection.close()


@pytest.fixture
def record(request_event: Callable[..., Event]) -> Record:
    return to_record(request_event(), topic="in", key="req_1")


def test_one_connection_serves_many_records(stub: Stub, source: Source, record: Record) -> None:
    for _ in range(5):
        source.deliver(record)
    assert stub.connections == 1
    headers, body = stub.seen[0]
    assert headers["ce-id"] == "req_1"
    assert body == record.value


def test_a_connection_closed_meanwhile_is_opened_again(
    stub: Stub, source: Source, record: Record
) -> None:
    stub.is_closing = True
    for _ in range(3):
        source.deliver(record)
    assert len(stub.seen) == 3


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 502, 503])
def test_a_retriable_status_means_again(
    stub: Stub, source: Source, record: Record, status: int
) -> None:
    stub.statuses = [status]
    with pytest.raises(NotTaken):
        source.deliver(record)
    source.deliver(record)


@pytest.mark.parametrize("status", [400, 403, 413, 431])
def test_another_refusal_goes_to_the_dead_letter_topic(
    stub: Stub, source: Source, log: MemoryLog, record: Record, status: int
) -> None:
    stub.statuses = [status]
    source.deliver(record)
    letter = log.records("infer.dlq")[0]
    assert letter.value == record.value
    assert dict(letter.headers)["ce_deadletterreason"] == f"router_status_{status}".encode()


def test_a_record_that_is_no_event_goes_to_the_dead_letter_topic(
    stub: Stub, source: Source, log: MemoryLog
) -> None:
    source.deliver(Record(topic="in", value=b"text", key=b"k"))
    assert stub.seen == []
    assert log.records("infer.dlq")[0].key == b"k"


def test_a_dead_letter_that_cannot_be_written_means_again(source: Source, log: MemoryLog) -> None:
    log.fail_next("infer.dlq", AppendFailed("down"))
    with pytest.raises(NotTaken):
        source.deliver(Record(topic="in", value=b"text"))


def test_a_router_that_is_away_means_again(log: MemoryLog, record: Record) -> None:
    with Stub() as gone:
        port = gone.server_address[1]
    address = RouterAddress(host="127.0.0.1", port=port, timeout_s=1.0)
    source = Source(address, publisher_of(log), in_flight=1)
    with pytest.raises(NotTaken):
        source.begin(record).result(5)
    source.close()
