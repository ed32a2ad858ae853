"""Asks the ingress whether it is ready: one plain HTTP request, so that the supervisor needs no client library."""

import http.client
from typing import Final

PROBE_TIMEOUT_S: Final = 2.0


def is_ready(host: str, port: int) -> bool:
    """Whether `GET /readyz` answers 200. Blocks for at most PROBE_TIMEOUT_S a step."""
    connection = http.client.HTTPConnection(
        find_reachable_host(host), port, timeout=PROBE_TIMEOUT_S
    )
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def find_reachable_host(host: str) -> str:
    """The address under which this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


def build_url(host: str, port: int) -> str:
    """The base URL for a person on this machine."""
    name = find_reachable_host(host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
