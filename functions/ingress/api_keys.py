"""API keys of tenants. Pure. Keys are compared as hashes, in constant time."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

from functions.runtime.errors import ApiError, StartupFailed

DEFAULT_TENANT: Final = "default"
_SCHEME: Final = "bearer"


class ApiKeys:
    """The configured keys. Without keys every caller is the tenant `default`."""

    def __init__(self, tenants_by_digest: Mapping[bytes, str]) -> None:
        self._tenants = dict(tenants_by_digest)
        self.has_several_tenants = len(set(self._tenants.values())) > 1

    @classmethod
    def parse(cls, text: str) -> "ApiKeys":
        """From `tenant=key,tenant=key` (`ingress.api_keys`).

        Raises:
            StartupFailed: an entry has no tenant or no key, or a key stands there twice: whose calls would they be?
                The message never shows a key.
        """
        tenants: dict[bytes, str] = {}
        entries: dict[bytes, int] = {}
        for number, entry in enumerate(
            (part.strip() for part in text.split(",") if part.strip()), 1
        ):
            tenant, equals, key = entry.partition("=")
            if not (tenant.strip() and equals and key.strip()):
                raise StartupFailed(f"PICKSPIN_API_KEYS: entry {number} is not tenant=key")
            digest = _digest(key.strip().encode())
            if digest in entries:
                raise StartupFailed(
                    f"PICKSPIN_API_KEYS: entries {entries[digest]} and {number} have the same key; "
                    "give every entry a key of its own"
                )
            entries[digest] = number
            tenants[digest] = tenant.strip()
        return cls(tenants)

    def __bool__(self) -> bool:
        return bool(self._tenants)

    def find_tenant(self, authorization: Sequence[bytes]) -> str:
        """The tenant of a request's `Authorization` header values.

        Raises:
            ApiError: `invalid_api_key` for two headers, and (with keys configured) none, malformed or unknown.
        """
        if len(authorization) > 1:
            raise ApiError("invalid_api_key", "Send exactly one Authorization header.")
        if not self._tenants:
            return DEFAULT_TENANT
        if not authorization:
            raise ApiError("invalid_api_key", "Send 'Authorization: Bearer <key>'.")
        scheme, _, key = authorization[0].partition(b" ")
        if scheme.decode("latin-1").lower() != _SCHEME or not key.strip():
            raise ApiError("invalid_api_key", "The Authorization header must read 'Bearer <key>'.")
        wanted = _digest(key.strip())
        tenant = None
        for digest, name in self._tenants.items():
            if hmac.compare_digest(digest, wanted):
                tenant = name
        if tenant is None:
            raise ApiError("invalid_api_key", "This API key is not known here.")
        return tenant


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
