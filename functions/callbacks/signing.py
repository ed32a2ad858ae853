"""Signatures and secrets of callbacks, as Standard Webhooks 1.0 says. Pure."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook

_FORM: Final = "whsec_{}"
SECRET_BYTES: Final = 32


def new_secret(entropy: bytes) -> str:
    """A secret (`whsec_...`) made of at least 32 random bytes; the first 32 are used.

    Raises:
        ValueError: too little entropy.
    """
    if len(entropy) < SECRET_BYTES:
        raise ValueError(f"a secret needs {SECRET_BYTES} random bytes")
    return _FORM.format(base64.b64encode(entropy[:SECRET_BYTES]).decode())


def sign_headers(
    secrets: Sequence[str], *, webhook_id: str, body: bytes, now: datetime
) -> dict[str, str]:
    """The three headers of an attempt. Several secrets (while one replaces another) give several signatures.

    Raises:
        ValueError: an id that contains a dot (what is signed could be read in two ways), or no secret.
    """
    if "." in webhook_id or not secrets:
        raise ValueError("a webhook needs an id without dots and a secret")
    seconds = now.astimezone(UTC).replace(microsecond=0)
    text = body.decode()
    signatures = [Webhook(secret).sign(webhook_id, seconds, text) for secret in secrets]
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(seconds.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
