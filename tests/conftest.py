"""Fixtures that several suites share, and a limit on how long a finished run may take to end."""

import faulthandler
from collections.abc import Iterator

import pytest
from hypothesis import settings

from functions.local.broker_kafka import start_kafka

# A slow machine takes longer for an example: that says nothing of the property.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("exit_limit_s", "how long threads may hold up the end of a run", default="60")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """A thread that a failed test left behind would hold up the process for ever: it is shown, and the run fails."""
    faulthandler.dump_traceback_later(float(config.getini("exit_limit_s")), exit=True)


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Apache Kafka node for the whole run (marker `kafka`: needs java and mvn)."""
    kafka = start_kafka(tmp_path_factory.mktemp("kafka"))
    try:
        yield kafka.bootstrap
    finally:
        kafka.stop()
