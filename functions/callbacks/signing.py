"""Signatures of callbacks, as Standard Webhooks 1.0 says. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook


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
