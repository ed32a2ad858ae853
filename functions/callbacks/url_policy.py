"""Which callback URLs may be accepted, and which resolved addresses may be connected to. Pure.

The ingress checks a URL when it is accepted. The delivery loop checks URL and address again before
each connection, and connects to exactly that address.
URLs are parsed with httpx, which also connects. If httpx and a strict reading of the text
disagree, the URL is refused.
Special addresses follow IANA's registries. The standard library's `is_global` is not enough: it
lets NAT64, 6to4 and multicast pass.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import httpx

from functions.runtime.errors import ApiError
from functions.runtime.settings import IngressSettings

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL_CHARS: Final = 2048
_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<authority>[A-Za-z0-9.:\[\]-]+)(?P<rest>[/?][!-~]*)?", re.ASCII
)
_AUTHORITY: Final = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::(?P<port>[0-9]{1,5}))?", re.ASCII
)
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_MAX_NAME_CHARS: Final = 253
_FORBIDDEN_IN_REST: Final = frozenset("#\\")

_INSIDE_SUFFIXES: Final = (
    ".localhost",
    ".localdomain",
    ".local",
    ".internal",
    ".svc",
    ".default",
    ".cluster",
    ".intranet",
    ".private",
    ".corp",
    ".home",
    ".lan",
    ".arpa",
    ".invalid",
    ".onion",
)
"""Names that mean something only inside a machine, a cluster or a company network."""


def _networks(*texts: str) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


_NEVER: Final = _networks(
    "0.0.0.0/8",  # this host
    "168.63.129.16/32",  # a cloud's host agent
    "169.254.0.0/16",  # link-local, metadata services
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, broadcast
    "2001::/23",  # Teredo, ORCHID, benchmarking
    "2001:db8::/32",
    "2002::/16",  # 6to4: an IPv4 address inside
    "3fff::/20",
    "fd00:ec2::/32",  # a cloud's metadata service
)
_PRIVATE: Final = _networks(
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::1/128",
    "fc00::/7",
)
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""All that IANA has given out of IPv6: mapped, NAT64, segment routing and link-local addresses lie outside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackPolicy:
    """What an operator allows. `hosts` empty: any public host; entries are names or `*.name`.

    `ports` None: any. `own` are host and port pairs of this product itself: a callback to them would be a loop.
    """

    hosts: tuple[str, ...] = ()
    may_use_http: bool = False
    may_reach_private: bool = False
    ports: frozenset[int] | None = frozenset({443, 8443})
    own: frozenset[tuple[str, int]] = frozenset()

    @classmethod
    def of(cls, settings: IngressSettings) -> "CallbackPolicy":
        """The policy of the settings `callback_*`; private targets (tests, demos) may use any port."""
        hosts = tuple(
            h for part in settings.callback_hosts.split(",") if (h := part.strip().lower())
        )
        web = frozenset({443, 8443} | ({80, 8080} if settings.callback_allow_http else set()))
        names = {settings.host.lower(), "localhost", "127.0.0.1", "::1"}
        return cls(
            hosts=hosts,
            may_use_http=settings.callback_allow_http,
            may_reach_private=settings.callback_allow_private,
            ports=None if settings.callback_allow_private else web,
            own=frozenset((name, settings.port) for name in names),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedTarget:
    """A URL that may be called once its address is judged. `host` is a lower-case name or an address without brackets.

    `address` is set where the URL names an address itself: nothing is resolved then.
    """

    url: str
    scheme: str
    host: str
    port: int
    path: str
    """Path and query as they go on the wire."""
    address: IpAddress | None = None

    @property
    def host_header(self) -> str:
        """`Host` of the request: the port only where it is not the scheme's own."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        is_usual = self.port == {"http": 80, "https": 443}[self.scheme]
        return shown if is_usual else f"{shown}:{self.port}"


def judge_url(url: str, policy: CallbackPolicy) -> ParsedTarget:
    """The target of a URL that may be called.

    Raises:
        ApiError: `callback_url_refused`; the message names the rule, never the URL.
    """
    parts = _split(url)
    scheme, rest = parts["scheme"], parts["rest"] or ""
    if scheme == "http" and not policy.may_use_http:
        raise _make_refusal("the URL must use https")
    if _FORBIDDEN_IN_REST & set(rest):
        raise _make_refusal("the URL must not contain a fragment or a backslash")
    place = _AUTHORITY.fullmatch(parts["authority"])
    if place is None:
        raise _make_refusal("the URL's host is not a plain name or address")
    host = place["host"].lower().strip("[]")
    port = int(place["port"] or {"http": 80, "https": 443}[scheme])
    _check_same_reading(url, host, port)
    _check_port(port, policy)
    address = _literal(host, is_bracketed=place["host"].startswith("["))
    if address is None:
        _check_name(host, policy)
    else:
        judge_address(address, policy)
    _check_allowed(host, port, policy)
    path = rest if rest.startswith("/") else f"/{rest}"
    return ParsedTarget(url=url, scheme=scheme, host=host, port=port, path=path, address=address)


def judge_address(address: str | IpAddress, policy: CallbackPolicy) -> IpAddress:
    """The address, where it may be connected to.

    Raises:
        ApiError: `callback_url_refused`: special, private without permission, or not an address at all.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        raise _make_refusal("the URL's host has no usable address") from None
    if isinstance(ip, ipaddress.IPv6Address) and ip.scope_id is not None:
        raise _make_refusal("the URL's address must not name an interface")
    if any(ip in network for network in _NEVER if network.version == ip.version):
        raise _make_refusal("the URL's address is reserved for special purposes")
    if any(ip in network for network in _PRIVATE if network.version == ip.version):
        if policy.may_reach_private:
            return ip
        raise _make_refusal("the URL's address is not a public one")
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _GLOBAL_UNICAST:
        raise _make_refusal("the URL's address is not a public one")
    return ip


def judge_addresses(addresses: Sequence[str], policy: CallbackPolicy) -> IpAddress:
    """The address to connect to, out of everything a name resolved to: one bad address refuses them all.

    Raises:
        ApiError: `callback_url_refused`.
    """
    judged = [judge_address(address, policy) for address in addresses]
    if not judged:
        raise _make_refusal("the URL's host has no usable address")
    return judged[0]


def _split(url: str) -> re.Match[str]:
    if len(url) > MAX_URL_CHARS:
        raise _make_refusal(f"the URL is longer than {MAX_URL_CHARS} characters")
    if not url.isascii() or any(not "!" <= char <= "~" for char in url):
        raise _make_refusal("the URL must be visible ASCII; encode what is not")
    match = _URL.fullmatch(url)
    if match is None:
        raise _make_refusal("not an absolute https URL with a plain host and no user")
    return match


def _check_same_reading(url: str, host: str, port: int) -> None:
    try:
        parsed = httpx.URL(url)
        # Decoding checks international (`xn--`) labels.
        is_host = bool(parsed.host) and parsed.raw_host == host.encode()
    except (httpx.InvalidURL, ValueError):
        raise _make_refusal("the URL cannot be parsed") from None
    usual = {"http": 80, "https": 443}.get(parsed.scheme)
    if not is_host or (parsed.port or usual) != port or parsed.userinfo:
        raise _make_refusal("the URL can be read in two ways")


def _check_port(port: int, policy: CallbackPolicy) -> None:
    if not 1 <= port <= 65535 or (policy.ports is not None and port not in policy.ports):
        raise _make_refusal("the URL's port is not allowed")


def _literal(host: str, *, is_bracketed: bool) -> IpAddress | None:
    """The address that `host` spells; None for a name. Only the canonical spelling is taken for an address."""
    if not is_bracketed and _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]) is None:
        return None
    try:
        return ipaddress.IPv6Address(host) if is_bracketed else ipaddress.IPv4Address(host)
    except ValueError:
        raise _make_refusal("the URL's address is not in its usual spelling") from None


def _check_name(host: str, policy: CallbackPolicy) -> None:
    labels = host.split(".")
    if len(host) > _MAX_NAME_CHARS or not all(_LABEL.fullmatch(label) for label in labels):
        raise _make_refusal("the URL's host is not a valid name")
    if policy.may_reach_private and host == "localhost":
        return
    if len(labels) == 1 or f".{host}".endswith(_INSIDE_SUFFIXES):
        raise _make_refusal("the URL's host is a name that means something only inside a network")


def _check_allowed(host: str, port: int, policy: CallbackPolicy) -> None:
    if (host, port) in policy.own:
        raise _make_refusal("the URL points back to this service")
    if policy.hosts and not any(_is_match(host, pattern) for pattern in policy.hosts):
        raise _make_refusal("the URL's host is not on the list of allowed callback hosts")


def _is_match(host: str, pattern: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def _make_refusal(message: str) -> ApiError:
    return ApiError("callback_url_refused", message, param="callback")
