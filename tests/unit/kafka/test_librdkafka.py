"""Settings of the broker as librdkafka takes them, and its errors as people read them."""

import logging
from types import SimpleNamespace

import pytest
from confluent_kafka import Consumer, Producer

from functions.kafka import librdkafka
from functions.kafka.librdkafka import ErrorLog, client_config, open_client
from functions.kafka.producer import KafkaAppender
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import BrokerSettings

SASL = {"sasl_username": "me", "sasl_password": "secret"}


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_every_security_setting_is_one_that_librdkafka_knows(protocol: str, mechanism: str) -> None:
    more = {"sasl_mechanism": mechanism, **SASL} if protocol.startswith("SASL") else {}
    settings = BrokerSettings(
        bootstrap="127.0.0.1:1, 127.0.0.1:2", security_protocol=protocol, **more
    )
    config = client_config(settings, "me")
    assert config["bootstrap.servers"] == "127.0.0.1:1,127.0.0.1:2"
    open_client(Producer, config)
    open_client(Consumer, config | {"group.id": "g"}).close()


@pytest.mark.parametrize(
    "odd",
    [
        {"security_protocol": "TLS"},
        {"security_protocol": "SASL_SSL", "sasl_mechanism": "MAGIC", **SASL},
        {"security_protocol": "SSL", "ssl_cafile": "/nowhere/ca.pem"},
    ],
)
def test_settings_that_cannot_work_are_said_at_the_start_without_the_secret(odd) -> None:
    settings = BrokerSettings(**odd)
    with pytest.raises(StartupFailed) as failed:
        KafkaAppender(settings, client_config(settings, "me"))
    assert "PICKSPIN_BROKER" in str(failed.value)
    assert "secret" not in str(failed.value)


def error(name: str) -> SimpleNamespace:
    return SimpleNamespace(name=lambda: name, str=lambda: f"{name} in words")


def test_an_error_is_said_once_and_again_after_a_while(caplog, monkeypatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(librdkafka.time, "monotonic", lambda: now_s)
    say = ErrorLog("me")
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            say(error("_ALL_BROKERS_DOWN"))
        say(error("_AUTHENTICATION"))
        assert [record.reason for record in caplog.records] == [
            "_ALL_BROKERS_DOWN",
            "_AUTHENTICATION",
        ]
        now_s += 31.0
        say(error("_ALL_BROKERS_DOWN"))
    assert len(caplog.records) == 3
