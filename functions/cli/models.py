"""`pickspin models`: what a running ingress can be asked for."""

from collections.abc import Mapping
from typing import Any

import typer

from functions.cli.ingress_client import call_ingress
from functions.cli.output import AsJson, Key, Url, say_json, say_table


def add_models(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(epilog="Example: pickspin models --url http://127.0.0.1:9000")(models)


def models(*, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """List what can be asked: models, aliases, tasks, cascades."""
    listed = call_ingress("GET", "/v1/models", url, key)
    if as_json:
        say_json(listed)
        return
    rows = [_model_row(entry) for entry in listed.get("data", [])]
    say_table(("MODEL", "STATE", "READY IN", "CONTEXT", "SERVER"), rows)


def _model_row(entry: dict[str, Any]) -> tuple[str, str, str, str, str]:
    shown = entry.get("pickspin", {})
    eta = shown.get("eta_s")
    ready_in = "now" if eta == 0 else f"{eta:.1f} s" if isinstance(eta, int | float) else "-"
    servers = [one["server"] for one in shown.get("services", ()) if one.get("server")]
    server = servers[0] if servers else {}
    context = shown.get("context_length", "-")
    return (
        _model_name(entry, shown),
        str(shown.get("state", "-")),
        ready_in,
        str(context),
        _describe_server(server),
    )


def _describe_server(server: dict[str, Any]) -> str:
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
