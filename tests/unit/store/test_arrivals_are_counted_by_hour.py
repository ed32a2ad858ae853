from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, insert

from functions.autoscaling.weekly_pattern import count_hours
from functions.sql.database import Database
from functions.sql.hourly_arrivals import SqlHourlyArrivals
from functions.sql.tables import requests

NOW = datetime(2026, 11, 20, 9, 50, tzinfo=UTC)
HOUR = count_hours(NOW)


@pytest.fixture
def database():
    found = Database("sqlite://")
    yield found
    found.close()


def arrive(database, *rows):
    """(hours ago, service) of requests."""
    with database.write() as connection:
        for index, (ago, service) in enumerate(rows):
            at = NOW - timedelta(hours=ago)
            connection.execute(
                insert(requests).values(
                    id=f"{service}-{ago}-{index}", tenant="t", operation="chat", state="completed",
                    asked_model="m", accepted_at=at, deadline=at, service=service, is_known=True,
                    seen_at=at,
                )
            )  # fmt: skip


def test_requests_are_counted_by_service_and_hour(database):
    arrive(database, (0, "a"), (0, "a"), (1, "a"), (1, "b"), (2, None))
    found = SqlHourlyArrivals(database).hourly(HOUR, 10)
    assert found == {"a": {HOUR: 2, HOUR - 1: 1}, "b": {HOUR - 1: 1}}


def test_counts_outlive_the_requests(database):
    arrive(database, (5, "a"), (0, "b"))
    history = SqlHourlyArrivals(database)
    before = history.hourly(HOUR, 10)
    with database.write() as connection:
        connection.execute(delete(requests).where(requests.c.service == "a"))
    assert history.hourly(HOUR, 10) == before


def test_counting_again_counts_nothing_twice_and_takes_up_what_came_late(database):
    arrive(database, (0, "a"), (1, "a"))
    history = SqlHourlyArrivals(database)
    first = history.hourly(HOUR, 10)
    assert history.hourly(HOUR, 10) == first
    arrive(database, (1, "late"))
    assert history.hourly(HOUR + 1, 10)["late"] == {HOUR - 1: 1}


def test_what_is_older_than_asked_is_forgotten(database):
    arrive(database, (5, "a"), (0, "a"))
    history = SqlHourlyArrivals(database)
    history.hourly(HOUR, 10)
    assert history.hourly(HOUR + 6, 10) == {"a": {HOUR: 1}}
