"""kafka-python as the product uses it: administration, where its pure-Python requests are at their best.

`settings.kind` `embedded` is librdkafka's mock cluster: it speaks an older protocol (`api_version`).
"""

from typing import Any, Final

from functions.kafka.kafka_python_patches import compile_one_at_a_time
from functions.runtime.settings import BrokerSettings

EMBEDDED_API_VERSION: Final = (2, 3)


def client_options(settings: BrokerSettings, client: str) -> dict[str, Any]:
    """kafka-python's options of every admin client: addresses, protocol version, security."""
    compile_one_at_a_time()
    options: dict[str, Any] = {
        "bootstrap_servers": [part.strip() for part in settings.bootstrap.split(",")],
        "client_id": client,
        "security_protocol": settings.security_protocol,
        "reconnect_backoff_max_ms": 1000,
    }
    if settings.kind == "embedded":
        options["api_version"] = EMBEDDED_API_VERSION
    if settings.sasl_mechanism:
        options |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": settings.sasl_password,
        }
    for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
        if getattr(settings, name):
            options[name] = getattr(settings, name)
    return options
