"""An append to a partition that the topic does not have fails, and says that the address is at fault."""

import pytest

from events.event import Record
from functions.runtime.errors import AppendFailed
from functions.testing.memory_broker import MemoryLog


def test_a_partition_that_is_not_there_is_unroutable_for_good() -> None:
    log = MemoryLog(partitions=2)
    appender = log.appender(client="t")

    with pytest.raises(AppendFailed) as caught:
        appender.append(Record(topic="replies", value=b"x", partition=2)).result(0)

    assert caught.value.is_unroutable
    assert caught.value.is_final
    assert not caught.value.is_too_large


def test_other_failures_are_not_the_records_own() -> None:
    assert not AppendFailed("not acknowledged in time", is_unknown=True).is_final
    assert AppendFailed("too large", is_too_large=True).is_final
