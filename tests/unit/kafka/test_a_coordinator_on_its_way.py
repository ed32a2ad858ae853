"""A cluster that just started has no coordinator yet: what asks for one asks again, and gives up in time."""

import pytest
from kafka.errors import CoordinatorNotAvailableError, GroupAuthorizationFailedError

from functions.kafka import coordinator_retry, membership
from functions.kafka.membership import KafkaGroupMembership


class Admin:
    """Refuses `refusals` times before it answers; one member, `one-1`, of client `one`."""

    def __init__(self):
        self.refusals = 0
        self.error = CoordinatorNotAvailableError
        self.asked = 0

    def _answer(self):
        self.asked += 1
        if self.refusals:
            self.refusals -= 1
            raise self.error()

    def describe_groups(self, groups):
        self._answer()
        return {
            group: {"members": [{"member_id": "one-1", "client_id": "one"}]} for group in groups
        }

    def remove_group_members(self, group, members):
        self._answer()
        return {member.member_id: NoError for member in members}


class NoError:
    errno = 0


@pytest.fixture
def admin(monkeypatch):
    found = Admin()
    monkeypatch.setattr(membership, "KafkaAdminClient", lambda **_: found)
    return found


def test_members_are_removed_once_the_coordinator_is_there(admin):
    admin.refusals = 2
    assert KafkaGroupMembership({}).remove("g", ["one"]) == 1
    assert admin.asked == 4


def test_a_coordinator_that_moves_between_the_two_requests_is_waited_for(admin):
    admin.refusals = 1
    assert KafkaGroupMembership({}).remove_members("g", ["one-1"]) == 1


def test_a_coordinator_that_never_comes_is_an_error_in_time(admin, monkeypatch):
    monkeypatch.setattr(coordinator_retry, "COORDINATOR_S", 0.0)
    admin.refusals = 10**6
    with pytest.raises(CoordinatorNotAvailableError):
        KafkaGroupMembership({}).remove("g", ["one"])


def test_what_waiting_does_not_mend_is_raised_at_once(admin):
    admin.refusals, admin.error = 1, GroupAuthorizationFailedError
    with pytest.raises(GroupAuthorizationFailedError):
        KafkaGroupMembership({}).remove("g", ["one"])
    assert admin.asked == 1
