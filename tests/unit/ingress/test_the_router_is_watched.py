"""An ingress without a router says that it is not ready."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from functions.ingress.router_watch import FRESH_S, RouterWatch
from functions.testing.fake_clock import FakeClock


class Router(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def router() -> Iterator[type[Router]]:
    class Mine(Router):
        url = ""

    with HTTPServer(("127.0.0.1", 0), Mine) as server:
        Mine.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield Mine
        server.shutdown()
        thread.join()


def test_ready_once_the_router_has_answered_and_for_a_moment_after(router: type[Router]) -> None:
    clock = FakeClock()
    watch = RouterWatch(router.url, clock)
    assert not watch.is_ready()

    watch.look()
    assert watch.is_ready()

    router.status = 503
    watch.look()
    assert watch.is_ready()  # it may be starting again

    clock.advance(FRESH_S + 0.1)
    watch.look()
    assert not watch.is_ready()


def test_nobody_there_is_no_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        watch = RouterWatch(f"http://127.0.0.1:{unused.getsockname()[1]}", FakeClock())
        watch.look()

    assert not watch.is_ready()


def test_a_router_that_is_not_named_is_not_missed() -> None:
    assert RouterWatch("", FakeClock()).is_ready()
