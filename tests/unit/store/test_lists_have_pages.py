"""Pages of files, batches, requests and callback targets: together they are the list, whatever happens meanwhile."""

from datetime import timedelta

import pytest
from sqlalchemy import create_engine, inspect, text

from events.names import State
from functions.ports.paging import CursorUnknown, PageQuery
from functions.ports.store import BatchRow, CallbackTarget, FileRow
from functions.sql.sql_store import SqlStore


def add_file(store, clock, name, purpose="batch", tenant="one"):
    store.add_file(
        FileRow(
            id=name,
            tenant=tenant,
            filename=f"{name}.jsonl",
            purpose=purpose,
            bytes=1,
            created_at=clock.now(),
            ref="blob:x",
        )
    )


def add_batch(store, clock, name):
    store.add_batch(
        BatchRow(
            id=name,
            tenant="one",
            endpoint="/v1/embeddings",
            input_file_id="f",
            completion_window="24h",
            status="completed",
            created_at=clock.now(),
            deadline=clock.now(),
        )
    )


def add_target(store, name, tenant="one"):
    store.add_target(
        CallbackTarget(id=name, tenant=tenant, url="https://a.example/", secret="whsec_x")
    )


def read_on(read, page):
    """All ids, one page after the other."""
    found = []
    for _ in range(20):
        listed = read(page)
        found.extend(row.id for row in listed.rows)
        if not listed.has_more:
            return found
        page = PageQuery(limit=page.limit, order=page.order, after=listed.rows[-1].id)
    raise AssertionError("the list does not end")


@pytest.fixture
def seven(store, clock):
    """Seven files, three of them of one instant."""
    for number in range(7):
        add_file(store, clock, f"f{number}")
        if number not in {2, 3}:
            clock.advance(1)
    add_file(store, clock, "other", tenant="two")
    return ["f0", "f1", "f2", "f3", "f4", "f5", "f6"]


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 8])
def test_pages_together_are_the_list(store, seven, limit):
    def read(page):
        return store.files("one", page)

    assert read_on(read, PageQuery(limit=limit, order="asc")) == seven
    assert read_on(read, PageQuery(limit=limit)) == seven[::-1]


def test_a_page_before_an_entry_ends_right_before_it(store, seven):
    page = store.files("one", PageQuery(limit=2, order="asc", before="f4"))
    assert ([row.id for row in page.rows], page.has_more) == (["f2", "f3"], True)
    page = store.files("one", PageQuery(limit=4, order="asc", before="f4"))
    assert ([row.id for row in page.rows], page.has_more) == (["f0", "f1", "f2", "f3"], False)
    page = store.files("one", PageQuery(limit=2, before="f4"))
    assert ([row.id for row in page.rows], page.has_more) == (["f6", "f5"], False)


def test_a_page_between_two_entries_holds_those_between(store, seven):
    page = store.files("one", PageQuery(order="asc", after="f1", before="f5"))
    assert [row.id for row in page.rows] == ["f2", "f3", "f4"]


def test_what_comes_and_goes_meanwhile_moves_nothing(store, clock, seven):
    first = store.files("one", PageQuery(limit=3))
    add_file(store, clock, "new")
    for row in first.rows:
        assert store.delete_file(row.id)
    second = store.files("one", PageQuery(limit=3, after=first.rows[-1].id))
    assert [row.id for row in second.rows] == ["f3", "f2", "f1"]


def test_a_filter_comes_before_the_limit(store, clock):
    for number in range(6):
        add_file(store, clock, f"f{number}", "batch" if number % 3 == 0 else "vision")
        clock.advance(1)
    page = store.files("one", PageQuery(limit=1), "batch")
    assert ([row.id for row in page.rows], page.has_more) == (["f3"], True)
    page = store.files("one", PageQuery(limit=1, after="f3"), "batch")
    assert ([row.id for row in page.rows], page.has_more) == (["f0"], False)


@pytest.mark.parametrize("cursor", ["after", "before"])
def test_an_entry_of_nobody_or_of_another_tenant_is_no_place(store, seven, cursor):
    for name in ("nothing", "other"):
        with pytest.raises(CursorUnknown) as caught:
            store.files("one", PageQuery(**{cursor: name}))
        assert caught.value.cursor == cursor


def test_batches_and_callback_targets_have_pages(store, clock):
    for number in range(5):
        add_batch(store, clock, f"b{number}")
        add_target(store, f"cb_{number}")
        clock.advance(1)
    add_target(store, "cb_other", tenant="two")
    store.disable_target("cb_2")
    batches = read_on(lambda page: store.batches("one", page), PageQuery(limit=2))
    assert batches == ["b4", "b3", "b2", "b1", "b0"]
    targets = read_on(lambda page: store.targets("one", page), PageQuery(limit=2, order="asc"))
    assert targets == ["cb_0", "cb_1", "cb_3", "cb_4"]


def test_requests_have_pages_and_deleted_ones_are_still_places(store, facts, clock):
    for number in range(6):
        store.accept(facts.row(f"r{number}", tenant="one"))
        clock.advance(1)
    store.record_batch([facts.completed("r0"), facts.completed("r3"), facts.completed("r5")])

    def read(page, states=None):
        return store.requests(page, tenant="one", states=states)

    assert read_on(read, PageQuery(limit=4)) == ["r5", "r4", "r3", "r2", "r1", "r0"]
    done = read(PageQuery(limit=2), [State.COMPLETED])
    assert ([row.id for row in done.rows], done.has_more) == (["r5", "r3"], True)
    store.forget("r3")
    last = read(PageQuery(limit=2, after="r3"), [State.COMPLETED])
    assert ([row.id for row in last.rows], last.has_more) == (["r0"], False)


def test_places_of_deleted_files_are_forgotten_in_time(store, clock, seven):
    store.delete_file("f3")
    clock.advance(10)
    store.purge(clock.now() - timedelta(days=1))
    assert store.files("one", PageQuery(after="f3")).rows
    store.purge(clock.now())
    with pytest.raises(CursorUnknown):
        store.files("one", PageQuery(after="f3"))


def test_a_store_of_an_earlier_program_gets_the_indexes_that_are_new(tmp_path, clock):
    url = f"sqlite:///{tmp_path / 'old.sqlite3'}"
    SqlStore(url, clock).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP INDEX callback_targets_tenant"))
    SqlStore(url, clock).close()
    names = {index["name"] for index in inspect(engine).get_indexes("callback_targets")}
    engine.dispose()
    assert "callback_targets_tenant" in names
