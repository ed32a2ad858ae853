"""Calls of a running ingress, for the verbs that ask one."""

from typing import Any, Final

import typer

from functions.cli.output import base_url
from functions.runtime.errors import PickspinError, StartupFailed

TIMEOUT_S: Final = 10.0


class IngressRefused(PickspinError):
    """The ingress answered with an error; the message is its own."""


def call_ingress(method: str, path: str, url: str | None, key: str | None) -> Any:
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
        answer = reply.json()
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
        raise IngressRefused(_message(answer, reply.status_code))
    return answer


def _message(answer: Any, status_code: int) -> str:
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        return f"{error.get('code')}: {error['message']}"
    return f"the ingress answered status {status_code}"
