"""`pickspin status`: what every service does, and why it does not scale."""

from typing import Annotated, Final

import typer

from functions.cli.cluster_options import (
    Bootstrap,
    Kubeconfig,
    Namespace,
    has_cluster,
    read_cluster,
)
from functions.cli.ingress_client import TIMEOUT_S, call_ingress
from functions.cli.output import AsJson, Key, Url, base_url, say_json

EXAMPLES: Final = """\b
Examples:
  pickspin status
  pickspin status --url http://127.0.0.1:9000 --json
  pickspin status --cluster -n models
  pickspin status --cluster --bootstrap kafka.example.com:9092
"""


def add_status(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(epilog=EXAMPLES)(status)


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
    listed = call_ingress("GET", "/v1/models", url, key).get("data", []) if is_ready else []
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
