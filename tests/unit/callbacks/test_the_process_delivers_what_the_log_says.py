import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
from standardwebhooks import Webhook

from events import builders, names
from events.codecs.kafka_codec import outgoing_record
from events.names import Topics
from events.payloads import PickspinData
from events.requests import Origin
from functions.callbacks.main import CallbacksProcess
from functions.callbacks.webhook_client import SystemResolver
from functions.ports.store import CallbackTarget
from functions.runtime.settings import IngressSettings, ProbeSettings, Settings
from functions.runtime.shutdown import StopFlag
from functions.runtime.system_clock import SystemClock
from functions.sql.sql_store import SqlStore
from functions.testing.memory_broker import MemoryBlobs, MemoryLog

TOPICS = Topics()
SECRET = "whsec_" + 8 * "abcd"


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append((dict(self.headers), body))
        self.send_response(204)
        self.end_headers()
        self.server.got_one.set()

    def log_message(self, *args):
        pass


def test_a_terminal_on_the_log_arrives_signed_and_the_process_drains():
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    server.received, server.got_one = [], threading.Event()
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    clock, log, stop = SystemClock(), MemoryLog(partitions=1), StopFlag()
    store, resolver = SqlStore("sqlite://", clock), SystemResolver(2)
    ingress = IngressSettings(callback_allow_http=True, callback_allow_private=True)
    url = f"http://localhost:{server.server_port}/hook"
    store.add_target(CallbackTarget(id="t1", tenant="one", url=url, secret=SECRET))
    process = CallbacksProcess(
        settings=Settings(ingress=ingress, probes=ProbeSettings(port=0)),
        store=store,
        log=log,
        blobs=MemoryBlobs(),
        clock=clock,
        resolver=resolver,
    )
    outcome = []
    running = threading.Thread(target=lambda: outcome.append(process.run(stop)))
    running.start()
    try:
        event = builders.build_completed(
            Origin(request_id="r1", carried={names.TENANT: "one", names.CALLBACK_ID: "t1"}),
            {"text": "hello"},
            PickspinData(request_id="r1", state="completed"),
            source="/models/slug",
            generation="g",
            now=clock.now(),
        )
        (out,) = builders.terminal_outgoing(event, topics=TOPICS, reply=None)
        log.appender(client="t").append(outgoing_record(out)).result(0)
        assert server.got_one.wait(10)
        probes = f"http://127.0.0.1:{process.probe_port}"
        assert httpx.get(f"{probes}/readyz", trust_env=False).status_code == 200
        assert "pickspin_callback_attempts" in httpx.get(f"{probes}/metrics", trust_env=False).text
    finally:
        stop.set()
        running.join(10)
        server.shutdown()
        serving.join()
        server.server_close()
    assert outcome == [0]
    headers, body = server.received[0]
    assert Webhook(SECRET).verify(body, headers)["type"] == "inference.completed"
    (found,) = store.deliveries("r1")
    assert found.state == "delivered"
    resolver.close()
    store.close()


def test_a_part_that_dies_ends_the_process_with_a_status():
    class BrokenLog(MemoryLog):
        def group(self, **options):
            raise RuntimeError("no such group")

    clock = SystemClock()
    store = SqlStore("sqlite://", clock)
    process = CallbacksProcess(
        settings=Settings(),
        store=store,
        log=BrokenLog(),
        blobs=MemoryBlobs(),
        clock=clock,
        resolver=None,
    )
    assert process.run(StopFlag()) == 1
    store.close()
