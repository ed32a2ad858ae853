"""The Kubernetes API over HTTP, as much as the tests need: reading, patching, deleting, watching with wall times."""

import base64
import json
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import yaml

Object = dict[str, Any]

PLACES = {
    "pods": "/api/v1/namespaces/{namespace}/pods",
    "events": "/api/v1/namespaces/{namespace}/events",
    "configmaps": "/api/v1/namespaces/{namespace}/configmaps",
    "deployments": "/apis/apps/v1/namespaces/{namespace}/deployments",
    "statefulsets": "/apis/apps/v1/namespaces/{namespace}/statefulsets",
    "leases": "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases",
    "services.serving": "/apis/serving.knative.dev/v1/namespaces/{namespace}/services",
    "revisions": "/apis/serving.knative.dev/v1/namespaces/{namespace}/revisions",
    "podautoscalers": "/apis/autoscaling.internal.knative.dev/v1alpha1/namespaces/{namespace}/podautoscalers",
    "scaledobjects": "/apis/keda.sh/v1alpha1/namespaces/{namespace}/scaledobjects",
    "kafkasources": "/apis/sources.knative.dev/v1/namespaces/{namespace}/kafkasources",
}


class KubeApi:
    """One kubeconfig's cluster, with its client certificate; everything in `namespace` unless said otherwise."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self.namespace = namespace
        found = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        cluster, user = found["clusters"][0]["cluster"], found["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=authority)
        with tempfile.NamedTemporaryFile() as pair:
            for part in ("client-certificate-data", "client-key-data"):
                pair.write(base64.b64decode(user[part]))
            pair.flush()
            context.load_cert_chain(pair.name)
        self._http = httpx.Client(base_url=cluster["server"], verify=context, timeout=30.0)

    def close(self) -> None:
        self._http.close()

    def place(self, kind: str, name: str = "", namespace: str | None = None) -> str:
        folder = PLACES[kind].format(namespace=namespace or self.namespace)
        return f"{folder}/{name}" if name else folder

    def list(self, kind: str, *, namespace: str | None = None, labels: str = "") -> list[Object]:
        parameters = {"labelSelector": labels} if labels else {}
        answer = self._http.get(self.place(kind, namespace=namespace), params=parameters)
        if answer.status_code == 404:  # the kind's operator is not installed
            return []
        found: list[Object] = answer.raise_for_status().json()["items"]
        return found

    def get(self, kind: str, name: str, *, namespace: str | None = None) -> Object | None:
        answer = self._http.get(self.place(kind, name, namespace))
        return None if answer.status_code == 404 else answer.raise_for_status().json()

    def patch(self, kind: str, name: str, body: Object, *, namespace: str | None = None) -> Object:
        """A JSON merge patch."""
        header = {"content-type": "application/merge-patch+json"}
        answer = self._http.patch(
            self.place(kind, name, namespace), content=json.dumps(body), headers=header
        )
        found: Object = answer.raise_for_status().json()
        return found

    def delete(
        self, kind: str, name: str, *, namespace: str | None = None, grace_s: int = 30
    ) -> None:
        """Deletes one object; it may be gone already."""
        body = {"gracePeriodSeconds": grace_s}
        place = self.place(kind, name, namespace)
        answer = self._http.request("DELETE", place, content=json.dumps(body))
        if answer.status_code != 404:
            answer.raise_for_status()

    def text(self, path: str) -> str:
        """Any path as it is: metrics, logs, health."""
        return self._http.get(path).raise_for_status().text

    def json(self, path: str) -> Any:
        return self._http.get(path).raise_for_status().json()

    def changes(self, kind: str, stop: threading.Event) -> Iterator[tuple[float, str, Object]]:
        """Wall time, ADDED, MODIFIED or DELETED, and the object; goes on after an API server's restart."""
        version = ""
        while not stop.is_set():
            parameters = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "300"}
            try:
                with self._http.stream(
                    "GET", self.place(kind), params=parameters, timeout=httpx.Timeout(5.0, read=2.0)
                ) as answer:
                    for line in answer.iter_lines():
                        at, found = time.time(), json.loads(line)
                        if found.get("type") in {None, "ERROR"}:
                            version = ""
                            break
                        version = found["object"]["metadata"]["resourceVersion"]
                        yield at, found["type"], found["object"]
                        if stop.is_set():
                            return
            except httpx.ReadTimeout:
                continue
            except (httpx.HTTPError, json.JSONDecodeError):
                stop.wait(0.2)


class Watcher:
    """Calls `seen` for every change of `kind`, in a thread, until closed."""

    def __init__(self, api: KubeApi, kind: str, seen: Callable[[float, str, Object], None]) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(api, kind, seen), daemon=True)
        self._thread.start()

    def _run(self, api: KubeApi, kind: str, seen: Callable[[float, str, Object], None]) -> None:
        for at, change, found in api.changes(kind, self._stop):
            seen(at, change, found)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10.0)
