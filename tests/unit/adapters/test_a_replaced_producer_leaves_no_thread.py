"""A producer that is given up ends, with its thread and its connections, however much it still holds."""

import threading

import pytest

from events.record import Record
from functions.adapters.kafka_appender import KafkaAppender
from functions.adapters.kafka_log import client_options
from functions.errors import AppendFailed
from functions.local.mock_cluster import MockCluster
from functions.ports import TopicSpec
from functions.settings import BrokerSettings

RECORD = Record(topic="t", value=b"{}", key=b"k", headers=(), partition=0)


PATIENCE_S = 10.0


def threads():
    """Of producers with this test's name."""
    return [each for each in threading.enumerate() if each.name == "held-network-thread"]


@pytest.fixture
def holding():
    """An appender whose producer holds a record that no broker will ever take, and that record's future."""
    with MockCluster([TopicSpec(name="t", partitions=1)]) as cluster:
        settings = BrokerSettings(
            bootstrap=cluster.bootstrap, kind="embedded", delivery_timeout_s=5.0
        )
        appender = KafkaAppender(settings, client_options(settings, "held"))
        assert appender.append(RECORD).result(10.0).partition == 0
    held = appender.append(RECORD)
    yield appender, held
    appender.close(0.2)
    for each in threads():
        each.join(PATIENCE_S)


def test_the_thread_of_a_producer_that_is_replaced_ends_with_what_it_holds(holding):
    appender, held = holding
    (first,) = threads()
    appender._rebuild(appender._producer)
    first.join(PATIENCE_S)
    assert not first.is_alive()
    with pytest.raises(AppendFailed):
        held.result(15.0)


def test_the_thread_of_a_producer_ends_when_the_appender_closes_though_the_broker_is_gone(holding):
    appender, held = holding
    (first,) = threads()
    appender.close(0.2)
    first.join(PATIENCE_S)
    assert not first.is_alive()
    with pytest.raises(AppendFailed):
        held.result(15.0)
