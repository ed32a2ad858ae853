"""The error tree of everything that runs, and the one mapping to OpenAI's error shape.

    PickspinError
    ├── ApiError           a refusal or failure with an HTTP status and a stable code (maps 1:1 to a failed reply)
    ├── AppendFailed       a record was not (or not knowably) written
    ├── BlobMissing        a `dataref` cannot be honoured
    ├── StoreFailed        the store refused, or is out of reach
    └── StartupFailed      a process cannot start; the message says what to do

The table `CODES` is a contract with callers (docs/reference/errors.md): status, OpenAI `type`, `x-should-retry`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Source = Literal["gateway", "model"]


class PickspinError(Exception):
    """Root of the tree."""


class AppendFailed(PickspinError):
    """A record was refused or its outcome is unknown. `is_unknown` True: it may yet appear in the log.

    `is_too_large` and `is_unroutable` (the broker has no such topic or partition) belong to this one record: it fails
    again however often it is tried, and the next one may well be taken.
    """

    def __init__(
        self,
        reason: str,
        *,
        is_unknown: bool = False,
        is_too_large: bool = False,
        is_unroutable: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_unknown = is_unknown
        self.is_too_large = is_too_large
        self.is_unroutable = is_unroutable

    @property
    def is_final(self) -> bool:
        """Whether the record itself is at fault: to try it again is pointless, and says nothing of the broker."""
        return self.is_too_large or self.is_unroutable


class BlobMissing(PickspinError):
    """The referenced blob is absent, larger than allowed, or its hash differs."""


class StoreFailed(PickspinError):
    """A transaction of the store failed as a whole. `is_transient` True: the same call may succeed later."""

    def __init__(self, reason: str, *, is_transient: bool) -> None:
        super().__init__(reason)
        self.is_transient = is_transient


class StartupFailed(PickspinError):
    """The process cannot start; the message is one line for a person and says what to do."""


@dataclass(frozen=True, slots=True)
class CodeRow:
    """What one error code means on HTTP. `should_retry` None leaves the client's own rule."""

    status: int
    type: str
    should_retry: bool | None = None
    retry_after_s: int | None = None


CODES: Final[Mapping[str, CodeRow]] = MappingProxyType(
    {
        "invalid_body": CodeRow(400, "invalid_request_error"),
        "invalid_value": CodeRow(400, "invalid_request_error"),
        "unsupported_parameter": CodeRow(400, "invalid_request_error"),
        "capability_missing": CodeRow(400, "invalid_request_error"),
        "context_length_exceeded": CodeRow(400, "invalid_request_error"),
        "callback_url_refused": CodeRow(400, "invalid_request_error"),
        "invalid_event": CodeRow(400, "invalid_request_error"),
        "invalid_api_key": CodeRow(401, "authentication_error"),
        "model_not_allowed": CodeRow(403, "permission_error"),
        "host_not_allowed": CodeRow(403, "permission_error"),
        "origin_not_allowed": CodeRow(403, "permission_error"),
        "model_not_found": CodeRow(404, "invalid_request_error"),
        "not_found": CodeRow(404, "invalid_request_error"),
        "request_gone": CodeRow(410, "invalid_request_error", should_retry=False),
        "method_not_allowed": CodeRow(405, "invalid_request_error"),
        "key_reused": CodeRow(409, "idempotency_error", should_retry=False),
        "in_progress": CodeRow(409, "idempotency_error", should_retry=True, retry_after_s=1),
        "not_cancellable": CodeRow(409, "invalid_request_error", should_retry=False),
        "not_finished": CodeRow(409, "invalid_request_error", should_retry=True, retry_after_s=1),
        "file_in_use": CodeRow(409, "invalid_request_error", should_retry=False),
        "not_rateable": CodeRow(409, "invalid_request_error", should_retry=False),
        "constraints_unmet": CodeRow(422, "invalid_request_error"),
        "request_too_large": CodeRow(413, "invalid_request_error"),
        "unsupported_media_type": CodeRow(415, "invalid_request_error"),
        "header_too_large": CodeRow(431, "invalid_request_error"),
        "tenant_rate": CodeRow(429, "rate_limit_error", should_retry=True, retry_after_s=5),
        "tenant_queue": CodeRow(429, "rate_limit_error", should_retry=True, retry_after_s=5),
        "overloaded": CodeRow(503, "server_error", should_retry=True, retry_after_s=2),
        "not_accepted": CodeRow(503, "server_error", should_retry=True, retry_after_s=2),
        "storage_unavailable": CodeRow(503, "server_error", should_retry=True, retry_after_s=2),
        "not_ready": CodeRow(503, "server_error", should_retry=True, retry_after_s=2),
        "no_healthy_service": CodeRow(503, "server_error", should_retry=True, retry_after_s=10),
        "deadline_exceeded": CodeRow(504, "timeout_error", should_retry=False),
        "cancelled": CodeRow(409, "invalid_request_error", should_retry=False),
        "lost_on_restart": CodeRow(502, "server_error", should_retry=False),
        "backend_failed": CodeRow(502, "server_error", should_retry=False),
        "bad_backend_reply": CodeRow(502, "server_error", should_retry=False),
        "reply_too_large": CodeRow(502, "server_error", should_retry=False),
        "attempts_exhausted": CodeRow(502, "server_error", should_retry=False),
        "generation_restarted": CodeRow(502, "server_error", should_retry=False),
        "internal": CodeRow(500, "server_error"),
    }
)


class ApiError(PickspinError):
    """A typed refusal or failure.

    `code` is a key of `CODES`. `message` is for a person and says what to do; it never contains prompt text,
    host names or keys, and of upstream bodies only what `refusal_quotes` lets through. `param` names the field at
    fault, or None. `src` says who spoke.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        src: Source = "gateway",
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.param = param
        self.src: Source = src
        self.row = CODES[code]
        self.retry_after_s = self.row.retry_after_s if retry_after_s is None else retry_after_s

    @property
    def status(self) -> int:
        return self.row.status

    def body(self, request_id: str | None) -> dict[str, object]:
        """The OpenAI error envelope (the same object is the data of a failed reply under `error`)."""
        return {
            "error": {
                "message": self.message,
                "type": self.row.type,
                "code": self.code,
                "param": self.param,
                "src": self.src,
                "request_id": request_id,
            }
        }

    def headers(self) -> dict[str, str]:
        """`Retry-After` (1..120) and `x-should-retry` where the table names them."""
        headers: dict[str, str] = {}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(min(120, max(1, self.retry_after_s)))
        if self.row.should_retry is not None:
            headers["x-should-retry"] = "true" if self.row.should_retry else "false"
        return headers
