"""A join that ended between two polls is taken by the next one, unless its membership was lost in between."""

from types import SimpleNamespace

from kafka.future import Future

from functions.adapters.kafka_reading import _keep_join

ASSIGNMENT = b"assignment"


def consumer(join, protocol="cooperative-sticky"):
    """As much of a KafkaConsumer as a look at its join needs."""
    generation = SimpleNamespace(protocol=protocol)
    return SimpleNamespace(_coordinator=SimpleNamespace(_join_task=join, _generation=generation))


def ended():
    return Future().success(ASSIGNMENT)


def test_a_join_that_still_runs_is_left_alone():
    join = Future()
    found = consumer(join)
    _keep_join(found)
    assert found._coordinator._join_task is join


def test_a_join_that_ended_looks_as_if_it_ran_and_gives_its_result():
    found = consumer(ended())
    _keep_join(found)
    join, results = found._coordinator._join_task, []
    assert not join.is_done
    join.add_callback(results.append)
    assert results == [ASSIGNMENT]


def test_a_join_whose_membership_is_lost_before_it_is_taken_is_worth_nothing():
    found = consumer(ended())
    _keep_join(found)
    found._coordinator._generation = SimpleNamespace(protocol=None)
    _keep_join(found)
    assert found._coordinator._join_task.is_done


def test_no_join_is_no_join():
    found = consumer(None)
    _keep_join(found)
    assert found._coordinator._join_task is None
