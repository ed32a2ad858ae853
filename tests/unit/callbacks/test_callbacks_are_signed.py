from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from functions.callbacks.signing import sign_headers

SECRETS = ["whsec_" + 8 * letter for letter in ("abcd", "efgh")]
BODY = '{"type":"inference.completed","data":{"text":"gr\u00fc\u00dfe"}}'.encode()


def now():
    return datetime.now(UTC)


def test_the_official_verifier_accepts_what_is_signed():
    headers = sign_headers(SECRETS[:1], webhook_id="d1", body=BODY, now=now())
    assert Webhook(SECRETS[0]).verify(BODY, headers)["type"] == "inference.completed"


def test_another_body_id_or_secret_is_not_accepted():
    headers = sign_headers(SECRETS[:1], webhook_id="d1", body=BODY, now=now())
    for secret, body, changed in (
        (SECRETS[1], BODY, headers),
        (SECRETS[0], BODY + b" ", headers),
        (SECRETS[0], BODY, {**headers, "webhook-id": "d2"}),
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, changed)


def test_while_secrets_are_exchanged_both_receivers_verify():
    headers = sign_headers(SECRETS, webhook_id="d1", body=BODY, now=now())
    for secret in SECRETS:
        Webhook(secret).verify(BODY, headers)


def test_an_id_with_a_dot_is_refused():
    with pytest.raises(ValueError, match="without dots"):
        sign_headers(SECRETS, webhook_id="a.b", body=BODY, now=now())
