"""Verbs that ask a running ingress: models, status, request."""

from collections.abc import Mapping
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from functions.cli.cluster_options import (
    Bootstrap,
    Kubeconfig,
    Namespace,
    has_cluster,
    read_cluster,
)
from functions.cli.output import AsJson, Key, Url, base_url, say_json, say_table
from functions.runtime.errors import PickspinError, StartupFailed

TIMEOUT_S: Final = 10.0
STATUS_EXAMPLES: Final = """\b
Examples:
  pickspin status
  pickspin status --url http://127.0.0.1:9000 --json
  pickspin status --cluster -n models
  pickspin status --cluster --bootstrap kafka.example.com:9092
"""
RequestId = Annotated[str, typer.Argument(help="Id of the request (req_...).")]


class IngressRefused(PickspinError):
    """The ingress answered with an error; the message is its own."""


def ask(app: typer.Typer) -> None:
    """Adds the verbs that ask."""
    app.command(epilog="Example: pickspin models --url http://127.0.0.1:9000")(models)
    app.command(epilog=STATUS_EXAMPLES)(status)
    request = typer.Typer(help="Look at one request, or cancel it.")
    request.command("get", epilog="Example: pickspin request get req_0190...")(get_request)
    request.command("cancel", epilog="Example: pickspin request cancel req_0190...")(cancel_request)
    app.add_typer(request, name="request")


def models(*, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """List what can be asked: models, aliases, tasks, cascades."""
    found = call("GET", "/v1/models", url, key)
    if as_json:
        say_json(found)
        return
    rows = [_model_row(entry) for entry in found.get("data", [])]
    say_table(("MODEL", "STATE", "READY IN", "CONTEXT", "SERVER"), rows)


def status(
    *,
    url: Url = None,
    key: Key = None,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Ask the Kubernetes API, not an ingress.")
    ] = False,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = "",
    bootstrap: Bootstrap = "",
    as_json: AsJson = False,
) -> int:
    """Say what every service does, and why it does not scale.

    Of a running ingress; of a cluster with --cluster, or where no ingress answers and KUBECONFIG names one. Exit
    status 1 when an ingress is not ready.
    """
    import httpx  # noqa: PLC0415 - slow to import

    base = base_url(url)
    is_ready = False
    if not cluster:
        try:
            is_ready = httpx.get(f"{base}/readyz", timeout=TIMEOUT_S).status_code == 200
        except httpx.ConnectError:
            cluster = url is None and has_cluster(kubeconfig)
        except httpx.HTTPError:
            is_ready = False
    if cluster:
        return _cluster_status(namespace, kubeconfig, bootstrap, as_json=as_json)
    listed = call("GET", "/v1/models", url, key).get("data", []) if is_ready else []
    if as_json:
        say_json({"url": base, "ready": is_ready, "models": listed})
    else:
        from functions.cli.status_output import build_local_rows, print_rows  # noqa: PLC0415

        typer.echo(f"{base} is {'ready' if is_ready else 'not ready'}")
        if listed:
            print_rows(build_local_rows(listed))
    return 0 if is_ready else 1


def _cluster_status(namespace: str, kubeconfig: str, bootstrap: str, *, as_json: bool) -> int:
    from functions.cli.status_output import as_plain, build_cluster_rows, print_rows  # noqa: PLC0415
    from functions.doctor.service_status import list_statuses  # noqa: PLC0415

    snapshot = read_cluster(namespace, kubeconfig, bootstrap)
    services = list_statuses(snapshot)
    if as_json:
        say_json(as_plain(snapshot, services))
        return 0
    typer.echo(f"namespace {namespace}: {len(services)} services")
    if services:
        print_rows(build_cluster_rows(services))
    for kind, reason in sorted(snapshot.unread.items()):
        typer.echo(f"not read: {kind} ({reason})")
    return 0


def get_request(request_id: RequestId, *, url: Url = None, key: Key = None) -> None:
    """Print a request's state, and its answer once there is one (JSON)."""
    say_json(call("GET", f"/v1/requests/{quote(request_id, safe='')}", url, key))


def cancel_request(request_id: RequestId, *, url: Url = None, key: Key = None) -> None:
    """Cancel a request; prints its state (JSON)."""
    say_json(call("POST", f"/v1/requests/{quote(request_id, safe='')}/cancel", url, key))


def call(method: str, path: str, url: str | None, key: str | None) -> Any:
    """The JSON that an ingress answers.

    Raises:
        StartupFailed: nothing listens there.
        IngressRefused: it answered with an error.
    """
    import httpx  # noqa: PLC0415 - slow to import

    base = base_url(url)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        reply = httpx.request(method, f"{base}{path}", headers=headers, timeout=TIMEOUT_S)
        found = reply.json()
    except httpx.InvalidURL as error:
        raise typer.BadParameter(f"--url {base}: {error}") from error
    except httpx.HTTPError as error:
        reason = type(error).__name__
        raise StartupFailed(
            f"no ingress answers at {base} ({reason}): start one with pickspin up"
        ) from error
    except ValueError as error:
        raise IngressRefused(f"{base} answered something that is not JSON") from error
    if reply.is_error:
        raise IngressRefused(_message(found, reply.status_code))
    return found


def _message(found: Any, status_code: int) -> str:
    error = found.get("error") if isinstance(found, dict) else None
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        return f"{error.get('code')}: {error['message']}"
    return f"the ingress answered status {status_code}"


def _model_row(entry: dict[str, Any]) -> tuple[str, str, str, str, str]:
    shown = entry.get("pickspin", {})
    eta = shown.get("eta_s")
    ready_in = "now" if eta == 0 else f"{eta:.1f} s" if isinstance(eta, int | float) else "-"
    said = [one["server"] for one in shown.get("services", ()) if one.get("server")]
    server = said[0] if said else {}
    context = shown.get("context_length", "-")
    return (
        _model_name(entry, shown),
        str(shown.get("state", "-")),
        ready_in,
        str(context),
        _said(server),
    )


def _said(server: dict[str, Any]) -> str:
    """What a model server is and says that it cannot do; a dash where it has said nothing yet."""
    missing = [name for name in ("tools", "vision", "audio") if server.get(name) is False]
    without = f", no {'/'.join(missing)}" if missing else ""
    return f"{server['kind']}{without}" if server else "-"


def _model_name(entry: Mapping[str, Any], shown: Mapping[str, Any]) -> str:
    """The name that can be asked for, and what it stands for where it is no model's own."""
    name, kind = str(entry.get("id")), shown.get("virtual")
    if kind == "auto":
        return f"{name} (the best of all)"
    if kind is not None:
        return f"{name} ({kind} of {', '.join(map(str, shown.get('of', ())))})"
    return f"{name} (simulated)" if shown.get("simulated") else name
