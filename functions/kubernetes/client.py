"""`KubernetesApi` over HTTP. Objects stay plain JSON.

The `kubernetes` package gives configuration, credentials and TLS.
Its generated models and `SharedInformer` are not used (docs/adr/0013).
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from functions.ports.kubernetes import (
    KubernetesFailed,
    Listing,
    Object,
    Resource,
    Selection,
    WatchEvent,
)
from functions.runtime.errors import StartupFailed

CONNECT_S: Final = 3.0
READ_S: Final = 10.0
SILENCE_S: Final = 90.0
"""Bookmarks come once a minute: a watch that is silent for longer is dead."""
PAGE: Final = 500
_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
_MERGE: Final = "application/merge-patch+json"
OnCall = Callable[[str, str, int], None]
"""Told of each call: verb, plural, status (0: no answer)."""


class KubernetesClient:
    """One API server, as this pod's service account says; outside a pod, or where a file is named,
    as the kubeconfig says.

    Thread-safe.
    `kubeconfig` is a path; empty: the usual places.

    Raises:
        StartupFailed: the package is missing, or neither a service account nor a kubeconfig is
            there.
    """

    def __init__(
        self, kubeconfig: str = "", on_call: OnCall = lambda _verb, _plural, _status: None
    ) -> None:
        self._configuration, self._pool = _connect(kubeconfig)
        self._on_call = on_call

    def listing(self, selection: Selection) -> Listing:
        items: list[Object] = []
        query = _build_selectors(selection) | {"limit": str(PAGE)}
        while True:
            page = self._call(
                "list", selection.resource, selection.resource.path(selection.namespace), query
            )
            items += page["items"]
            following = page["metadata"].get("continue")
            if not following:
                return Listing(items=tuple(items), version=page["metadata"]["resourceVersion"])
            query["continue"] = following

    def watch(self, selection: Selection, version: str, timeout_s: float) -> Iterator[WatchEvent]:
        query = _build_selectors(selection) | {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(int(timeout_s)),
        }
        resource = selection.resource
        path = f"{resource.path(selection.namespace)}?{urlencode(query)}"
        response = self._request("watch", resource, "GET", path, read_s=SILENCE_S)
        try:
            for line in _read_lines(response):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise KubernetesFailed(
                        int(status.get("code", 500)),
                        status.get("reason", ""),
                        status.get("message", ""),
                    )
                yield WatchEvent(event["type"], event["object"])
        finally:
            # Not given back to the pool: what is left of the stream would be read by the next call.
            response.close()

    def get(self, resource: Resource, namespace: str, name: str) -> Object:
        return self._call("get", resource, resource.path(namespace, name))

    def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        return self._call("create", resource, resource.path(namespace), body=body, method="POST")

    def replace(self, resource: Resource, namespace: str, body: Object) -> Object:
        path = resource.path(namespace, body["metadata"]["name"])
        return self._call("replace", resource, path, body=body, method="PUT")

    def patch(
        self, resource: Resource, namespace: str, name: str, body: Object, subresource: str = ""
    ) -> Object:
        path = resource.path(namespace, name, subresource)
        return self._call("patch", resource, path, body=body, method="PATCH")

    def delete(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        body = {"kind": "DeleteOptions", "apiVersion": "v1"}
        options = body | ({"preconditions": {"uid": uid}} if uid else {})
        path = resource.path(namespace, name)
        self._call("delete", resource, path, body=options, method="DELETE")

    def _call(
        self,
        verb: str,
        resource: Resource,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Object | None = None,
        method: str = "GET",
    ) -> dict[str, Any]:
        whole = f"{path}?{urlencode(query)}" if query else path
        response = self._request(verb, resource, method, whole, body=body, read_s=READ_S)
        try:
            answer: dict[str, Any] = json.loads(response.read())
        except Exception as error:
            raise KubernetesFailed(0, "Unreadable", type(error).__name__) from error
        finally:
            response.release_conn()
        return answer

    def _request(
        self,
        verb: str,
        resource: Resource,
        method: str,
        path: str,
        *,
        read_s: float,
        body: Object | None = None,
    ) -> Any:
        """The open response of a call that succeeded."""
        import urllib3  # noqa: PLC0415 - comes with the kubernetes package

        try:
            response = self._pool.request(
                method,
                f"{self._configuration.host}{path}",
                headers=self._headers(method),
                body=None if body is None else json.dumps(body).encode(),
                timeout=urllib3.Timeout(connect=CONNECT_S, read=read_s),
                retries=False,
                redirect=False,
                preload_content=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            self._on_call(verb, resource.plural, 0)
            raise KubernetesFailed(0, "Unreachable", type(error).__name__) from error
        self._on_call(verb, resource.plural, response.status)
        if response.status < 300:
            return response
        try:
            raise _parse_failure(response.status, response.read())
        finally:
            response.release_conn()

    def _headers(self, method: str) -> dict[str, str]:
        # Asked each time: the package reads a token again, which changes every hour.
        token = self._configuration.auth_settings().get("BearerToken", {}).get("value")
        kind = _MERGE if method == "PATCH" else "application/json"
        headers = {"accept": "application/json", "content-type": kind, "user-agent": "pickspin"}
        return headers | ({"authorization": token} if token else {})


def _connect(kubeconfig: str) -> tuple[Any, Any]:
    try:
        from kubernetes import client, config  # noqa: PLC0415 - slow, and only the controller needs it
    except ModuleNotFoundError as error:
        raise StartupFailed(
            "the Kubernetes client is not installed: in a checkout, pip install '.[kubernetes]'"
        ) from error
    configuration = client.Configuration()
    try:
        if _ACCOUNT.is_file() and not kubeconfig:
            config.load_incluster_config(client_configuration=configuration)
        else:
            config.load_kube_config(kubeconfig or None, client_configuration=configuration)
    except config.ConfigException as error:
        raise StartupFailed(f"no access to a Kubernetes API: {error}") from error
    return configuration, client.ApiClient(configuration).rest_client.pool_manager


def _parse_failure(status: int, raw: bytes) -> KubernetesFailed:
    """From the Status object that the API answers, or from whatever stands in front of it."""
    try:
        status_object = json.loads(raw)
        return KubernetesFailed(
            status, str(status_object["reason"]), str(status_object.get("message", ""))
        )
    except (ValueError, KeyError, TypeError):
        return KubernetesFailed(status, "Unknown", raw[:200].decode("utf-8", "replace"))


def _read_lines(response: Any) -> Iterator[bytes]:
    """Whole lines of a stream. A broken connection or a long silence is its end too."""
    import urllib3  # noqa: PLC0415

    rest = b""
    try:
        for chunk in response.stream(amt=None):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from filter(None, lines)
    except (urllib3.exceptions.HTTPError, OSError):
        return


def _build_selectors(selection: Selection) -> dict[str, str]:
    selectors = {"labelSelector": selection.labels, "fieldSelector": selection.fields}
    return {name: text for name, text in selectors.items() if text}
