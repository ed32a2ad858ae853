"""Fixtures that several suites share."""

from collections.abc import Iterator

import pytest

from functions.local.broker_kafka import start_kafka


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Apache Kafka node for the whole run (marker `kafka`: needs java and mvn)."""
    kafka = start_kafka(tmp_path_factory.mktemp("kafka"))
    try:
        yield kafka.bootstrap
    finally:
        kafka.stop()
