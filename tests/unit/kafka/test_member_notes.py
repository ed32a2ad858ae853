"""The note of a membership: written once an id is new, gone after an orderly end, never in the way."""

import json
import os
import time

import pytest

from functions.kafka.member_note import OLD_S, MemberNote


class Coordinator:
    """Knows which members were removed; `is_away`: no broker answers."""

    def __init__(self):
        self.removed = []
        self.is_away = False

    def __call__(self):
        if self.is_away:
            raise OSError("nobody there")
        return self

    def remove_members(self, group, members):
        self.removed += [(group, member) for member in members]
        return len(members)

    def close(self):
        return None


@pytest.fixture
def coordinator():
    return Coordinator()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "members" / "one.json"


@pytest.fixture
def note_at(coordinator):
    return lambda path, group="g": MemberNote(path, group, coordinator)


def test_who_finds_a_note_removes_that_member_once(coordinator, note_at, path):
    note_at(path).write("one-1")
    note_at(path).remove_former()
    note_at(path).remove_former()
    assert coordinator.removed == [("g", "one-1")]


def test_a_note_of_another_group_is_none(coordinator, note_at, path):
    note_at(path, "other").write("one-1")
    note_at(path).remove_former()
    assert coordinator.removed == []


def test_the_last_id_counts(coordinator, note_at, path):
    note = note_at(path)
    note.write("one-1")
    note.write("one-2")
    note_at(path).remove_former()
    assert coordinator.removed == [("g", "one-2")]


def test_after_an_orderly_end_there_is_nobody_to_remove(coordinator, note_at, path):
    note = note_at(path)
    note.write("one-1")
    note.clear()
    note_at(path).remove_former()
    assert coordinator.removed == []


def test_a_broker_that_is_away_stops_nobody_and_the_note_stays(coordinator, note_at, path):
    note_at(path).write("one-1")
    coordinator.is_away = True
    note_at(path).remove_former()
    coordinator.is_away = False
    note_at(path).remove_former()
    assert coordinator.removed == [("g", "one-1")]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"group": "g"}', '{"member": "m"}'])
def test_a_note_that_says_nothing_is_none(coordinator, note_at, path, content):
    path.parent.mkdir()
    path.write_text(content, "utf-8")
    note_at(path).remove_former()
    assert coordinator.removed == []


def test_a_place_that_cannot_be_written_costs_nothing_else(coordinator, note_at, tmp_path):
    in_the_way = tmp_path / "members"
    in_the_way.write_text("a file", "utf-8")
    note = note_at(in_the_way / "one.json")
    note.write("one-1")
    note.clear()
    note_at(in_the_way / "one.json").remove_former()
    assert coordinator.removed == []


def test_notes_that_nobody_came_back_for_are_removed_after_a_day(coordinator, note_at, path):
    path.parent.mkdir()
    old, young = path.parent / "old.json", path.parent / "young.json"
    for each, age_s in ((old, OLD_S + 60), (young, OLD_S - 60)):
        each.write_text(json.dumps({"group": "g", "member": "m"}), "utf-8")
        os.utime(each, times=(time.time() - age_s,) * 2)
    note_at(path).write("one-1")
    assert not old.exists()
    assert young.exists()
