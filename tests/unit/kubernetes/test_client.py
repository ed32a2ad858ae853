"""The real client against a small server that speaks the API's HTTP, over the API in memory."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from urllib.parse import parse_qs, urlsplit

import pytest

from functions.kubernetes import client as kubernetes_client
from functions.kubernetes.client import KubernetesClient
from functions.ports.kubernetes import (
    LEASES,
    PODS,
    SCALED_OBJECTS,
    KubernetesFailed,
    Selection,
    WatchEvent,
    get_name,
)
from functions.runtime.errors import StartupFailed
from functions.testing.memory_kubernetes import MemoryKubernetes

RESOURCES = {f"/{r.path('n').strip('/')}": r for r in (PODS, LEASES, SCALED_OBJECTS)}
PODS_HERE = Selection(resource=PODS, namespace="n")


class Handler(BaseHTTPRequestHandler):
    """Enough of the API's HTTP for one namespace."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _run(self):
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        folder = next(f for f in RESOURCES if parts.path == f or parts.path.startswith(f + "/"))
        name, _, subresource = parts.path.removeprefix(folder).strip("/").partition("/")
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.server.seen.append((self.command, self.path, dict(self.headers)))
        try:
            if query.get("watch"):
                self._watch(RESOURCES[folder], query)
            else:
                found = self._answer(RESOURCES[folder], name, subresource, body, query)
                self._send(200, found)
        except KubernetesFailed as error:
            status = {"kind": "Status", "code": error.status, "reason": error.reason}
            self._send(error.status, {**status, "message": error.message})

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _run  # noqa: N815 - the base class names them so

    def _answer(self, resource, name, subresource, body, query):
        api = self.server.api
        if self.command == "POST":
            return api.create(resource, "n", body)
        if self.command == "PUT":
            return api.replace(resource, "n", body)
        if self.command == "PATCH":
            assert self.headers["content-type"] == "application/merge-patch+json"
            return api.patch(resource, "n", name, body, subresource)
        if self.command == "DELETE":
            api.delete(resource, "n", name, (body or {}).get("preconditions", {}).get("uid", ""))
            return {"kind": "Status", "status": "Success"}
        if name:
            return api.get(resource, "n", name)
        return self._list(resource, query)

    def _list(self, resource, query):
        listing = self.server.api.listing(
            Selection(resource=resource, namespace="n", labels=query.get("labelSelector", ""))
        )
        start, size = int(query.get("continue", 0)), min(2, int(query["limit"]))
        more = {"continue": str(start + size)} if start + size < len(listing.items) else {}
        return {
            "metadata": {"resourceVersion": listing.version, **more},
            "items": listing.items[start : start + size],
        }

    def _watch(self, resource, query):
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        selection = Selection(resource=resource, namespace="n")
        try:
            for event in self.server.api.watch(
                selection, query["resourceVersion"], float(query["timeoutSeconds"])
            ):
                self._line({"type": event.kind, "object": event.object})
        except KubernetesFailed as error:
            status = {"kind": "Status", "code": error.status, "reason": error.reason}
            self._line({"type": "ERROR", "object": status})
        self.close_connection = True

    def _line(self, found):
        line = json.dumps(found).encode() + b"\n"
        for half in (line[:7], line[7:]):  # lines do not come whole
            self.wfile.write(b"%x\r\n%s\r\n" % (len(half), half))
            self.wfile.flush()

    def _send(self, status, found):
        raw = found if isinstance(found, bytes) else json.dumps(found).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@pytest.fixture
def server():
    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.daemon_threads = True
    found.api, found.seen = MemoryKubernetes(), []
    thread = threading.Thread(target=found.serve_forever, args=(0.01,))
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


@pytest.fixture
def client(server, tmp_path):
    config = {
        "clusters": [
            {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
        ],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = tmp_path / "config"
    path.write_text(json.dumps(config), encoding="utf-8")
    calls = []
    found = KubernetesClient(str(path), lambda *call: calls.append(call))
    found.calls = calls
    yield found
    found._pool.clear()


def pod(name, **labels):
    return {"metadata": {"name": name, "labels": labels}}


def test_a_long_list_comes_in_pages(client, server):
    for number in range(5):
        server.api.create(PODS, "n", pod(f"p{number}"))
    listing = client.listing(PODS_HERE)
    assert [get_name(each) for each in listing.items] == [f"p{number}" for number in range(5)]
    assert listing.version == server.api.listing(PODS_HERE).version


def test_objects_are_made_changed_and_deleted(client):
    made = client.create(PODS, "n", pod("p", a="b"))
    changed = client.patch(PODS, "n", "p", {"metadata": {"labels": {"a": None, "c": "d"}}})
    assert changed["metadata"]["labels"] == {"c": "d"}
    client.patch(PODS, "n", "p", {"status": {"phase": "Running"}}, "status")
    found = client.get(PODS, "n", "p")
    assert found["status"]["phase"] == "Running"
    client.replace(PODS, "n", {**found, "spec": {"x": 1}})
    client.delete(PODS, "n", "p", made["metadata"]["uid"])
    with pytest.raises(KubernetesFailed) as absent:
        client.get(PODS, "n", "p")
    assert absent.value.is_absent
    assert ("get", "pods", 404) in client.calls


def test_refusals_say_which_kind_they_are(client):
    made = client.create(PODS, "n", pod("p"))
    client.patch(PODS, "n", "p", {"spec": {"x": 1}})
    with pytest.raises(KubernetesFailed) as taken:
        client.create(PODS, "n", pod("p"))
    with pytest.raises(KubernetesFailed) as stale:
        client.replace(PODS, "n", made)
    with pytest.raises(KubernetesFailed) as another:
        client.delete(PODS, "n", "p", "uid-of-another")
    assert taken.value.reason == "AlreadyExists"
    assert stale.value.is_conflict
    assert another.value.is_conflict


def test_a_watch_brings_changes_and_ends_with_a_bookmark(client, server):
    version = client.listing(PODS_HERE).version
    server.api.create(PODS, "n", pod("p"))
    watch = client.watch(PODS_HERE, version, 30)
    (first,) = islice(watch, 1)
    assert isinstance(first, WatchEvent)
    assert (first.kind, get_name(first.object)) == ("ADDED", "p")
    server.api.delete(PODS, "n", "p", "")
    assert next(watch).kind == "DELETED"
    server.api.disconnect()
    assert list(watch) == [], "a connection that breaks is just the end of a watch"
    assert [e.kind for e in client.watch(PODS_HERE, version, 0)] == ["ADDED", "DELETED", "BOOKMARK"]


def test_a_version_that_is_too_old_is_said_in_the_stream(client, server):
    version = client.listing(PODS_HERE).version
    server.api.create(PODS, "n", pod("p"))
    server.api.compact()
    with pytest.raises(KubernetesFailed) as gone:
        list(client.watch(PODS_HERE, version, 30))
    assert gone.value.is_gone


def test_a_silent_watch_is_given_up(client, server, monkeypatch):
    monkeypatch.setattr(kubernetes_client, "SILENCE_S", 0.05)
    version = client.listing(PODS_HERE).version
    assert list(client.watch(PODS_HERE, version, 30)) == []
    server.api.disconnect()


def test_a_server_that_is_away_is_a_failure_without_status(client, server):
    server.shutdown()
    server.server_close()
    client._pool.clear()
    with pytest.raises(KubernetesFailed) as away:
        client.listing(PODS_HERE)
    assert away.value.status == 0
    assert client.calls[-1] == ("list", "pods", 0)


def test_what_stands_in_front_of_the_api_is_not_taken_for_it(client, server, monkeypatch):
    monkeypatch.setattr(Handler, "_answer", lambda *_: b"<html>sign in</html>")
    with pytest.raises(KubernetesFailed):
        client.get(PODS, "n", "p")


def test_the_token_goes_with_every_call_and_selectors_as_the_api_spells_them(client, server):
    client.listing(Selection(resource=PODS, namespace="n", labels="a=b", fields="metadata.name=x"))
    _, path, headers = server.seen[-1]
    assert headers["authorization"] == "Bearer secret"
    query = parse_qs(urlsplit(path).query)
    assert query["labelSelector"] == ["a=b"]
    assert query["fieldSelector"] == ["metadata.name=x"]


def test_without_any_access_it_says_so(tmp_path, monkeypatch):
    with pytest.raises(StartupFailed, match="Kubernetes"):
        KubernetesClient(str(tmp_path / "absent"))
