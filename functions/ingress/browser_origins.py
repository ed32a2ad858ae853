"""Which pages may call an ingress without keys: only those of this machine. Pure.

A page of any site can let a browser call 127.0.0.1. Its own name is in `Origin`. A name that it
has pointed at 127.0.0.1 (DNS rebinding) is in `Host`. With keys neither matters: no page has a
key.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

from functions.runtime.errors import ApiError
from functions.runtime.settings import IngressSettings

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_LOCAL_NAME: Final = "localhost"


class Origins:
    """What `Host` and `Origin` may name. `checks` False: everything, because calls have keys."""

    def __init__(self, settings: IngressSettings, *, checks: bool) -> None:
        self._checks = checks
        self._hosts = {_without_dot(settings.host), *split_entries(settings.allowed_hosts)}
        self._origins = frozenset(split_entries(settings.allowed_origins))

    def check(self, method: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Returns when the call may go on.

        Raises:
            ApiError: `host_not_allowed`, or `origin_not_allowed` for a method that changes something.
        """
        if not self._checks:
            return
        hosts, origins = [], []
        for name, value in headers:
            if name == b"host":
                hosts.append(value)
            elif name == b"origin":
                origins.append(value)
        # A browser always sends a host; a client of HTTP/1.0 may not.
        if len(hosts) > 1 or not all(
            self._is_known(parse_host_name(text)) for text in _texts(hosts)
        ):
            raise ApiError(
                "host_not_allowed",
                "Without keys only names of this machine are served; PICKSPIN_INGRESS_ALLOWED_HOSTS lists more.",
            )
        if method not in SAFE_METHODS and not all(map(self._may_write, _texts(origins))):
            raise ApiError(
                "origin_not_allowed",
                "Pages of other sites may not call here; PICKSPIN_INGRESS_ALLOWED_ORIGINS lists those that may.",
            )

    def _may_write(self, origin: str) -> bool:
        if origin in self._origins:
            return True
        scheme, separator, place = origin.partition("://")
        return bool(scheme and separator) and self._is_known(parse_host_name(place))

    def _is_known(self, name: str | None) -> bool:
        return name is not None and (is_local(name) or name in self._hosts)


def is_local(name: str) -> bool:
    """Names of this machine, and names without a dot: those of containers and of a local network.

    The internet has none of the latter (ICANN SAC053), so no page from elsewhere can point one at this machine.
    """
    has_letter = any(char.isalpha() for char in name)
    is_dotless = name.isascii() and has_letter and name.replace("-", "").isalnum()
    return is_dotless or is_loopback(name)


def is_loopback(name: str) -> bool:
    """`localhost`, a name below it, or an address that is this machine's own."""
    if name == _LOCAL_NAME or name.endswith(f".{_LOCAL_NAME}"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def parse_host_name(text: str) -> str | None:
    """The name of `name:port`, in lower case without brackets and the last dot; None where it is none."""
    if text.startswith("["):
        name, bracket, port = text[1:].partition("]")
        is_whole = bool(bracket) and (not port or port.startswith(":"))
        port = port[1:]
    else:
        name, _, port = text.partition(":")
        is_whole = True
    if not is_whole or not name or (port and not (port.isascii() and port.isdigit())):
        return None
    return _without_dot(name)


def _without_dot(name: str) -> str:
    return name.strip().lower().removesuffix(".")


def split_entries(text: str) -> list[str]:
    """The names or origins of a setting that lists them."""
    return [_without_dot(part) for part in text.split(",") if part.strip()]


def _texts(values: Sequence[bytes]) -> list[str]:
    return [value.decode("latin-1").strip().lower() for value in values]
