"""The one error of this layer: what arrived is not a valid event, body or identifier.

    EventRejected

Codes are rows of the table in `functions.runtime.errors`, so that a rejection maps to HTTP, to a
failed reply and to a dead letter without translation.
"""

from typing import Literal

RejectionCode = Literal[
    "invalid_event",
    "invalid_body",
    "invalid_value",
    "unsupported_parameter",
    "unsupported_media_type",
    "request_too_large",
    "header_too_large",
]


class EventRejected(Exception):
    """Input that is refused.

    `code` is stable. `message` is for a person and never contains what was refused (it may be a secret, a prompt or
    a forged log line). `attribute` names the event attribute or body field at fault (`param` in OpenAI's envelope),
    None where the whole is.
    """

    def __init__(self, code: RejectionCode, message: str, attribute: str | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code: RejectionCode = code
        self.message = message
        self.attribute = attribute

    @property
    def reason(self) -> str:
        """Short text for the `deadletterreason` header: the code and, where known, the attribute."""
        return self.code if self.attribute is None else f"{self.code}:{self.attribute}"
