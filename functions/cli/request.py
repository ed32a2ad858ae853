"""`pickspin request get | cancel`: one request of a running ingress."""

from typing import Annotated
from urllib.parse import quote

import typer

from functions.cli.ingress_client import call_ingress
from functions.cli.output import Key, Url, say_json

RequestId = Annotated[str, typer.Argument(help="Id of the request (req_...).")]


def add_request(app: typer.Typer) -> None:
    """Adds the verbs."""
    request = typer.Typer(help="Look at one request, or cancel it.")
    request.command("get", epilog="Example: pickspin request get req_0190...")(get_request)
    request.command("cancel", epilog="Example: pickspin request cancel req_0190...")(cancel_request)
    app.add_typer(request, name="request")


def get_request(request_id: RequestId, *, url: Url = None, key: Key = None) -> None:
    """Print a request's state, and its answer once there is one (JSON)."""
    say_json(call_ingress("GET", f"/v1/requests/{quote(request_id, safe='')}", url, key))


def cancel_request(request_id: RequestId, *, url: Url = None, key: Key = None) -> None:
    """Cancel a request; prints its state (JSON)."""
    say_json(call_ingress("POST", f"/v1/requests/{quote(request_id, safe='')}/cancel", url, key))
