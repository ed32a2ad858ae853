import json


def read(store, cursor=0):
    return store.events_after("r1", cursor)


def kinds(entries):
    return [entry.kind for entry in entries]


def test_a_stream_holds_states_chunks_and_the_terminal_in_order(store, facts):
    store.accept(facts.row())
    store.record_batch([facts.progressed("routed"), facts.progressed("running", attempt=1)])
    store.record_batch([facts.streamed(0), facts.streamed(1), facts.completed()])
    entries = read(store)
    assert kinds(entries) == ["state", "state", "state", "chunk", "chunk", "terminal"]
    assert json.loads(entries[0].data) == {"state": "accepted"}
    assert json.loads(entries[3].data) == {
        "chunks": [{"n": 0}],
        "generation": "g1",
        "sequence": 0,
        "attempt": 1,
    }
    assert json.loads(entries[5].data)["text"] == "hello"
    assert [entry.cursor for entry in entries] == sorted({entry.cursor for entry in entries})


def test_a_stream_goes_on_after_a_cursor(store, facts):
    store.accept(facts.row())
    store.record_batch([facts.streamed(0)])
    (_, chunk) = read(store)
    assert read(store, chunk.cursor) == []
    store.record_batch([facts.streamed(1)])
    assert [json.loads(entry.data)["sequence"] for entry in read(store, chunk.cursor)] == [1]


def test_events_read_twice_are_kept_once(store, facts):
    changes = [facts.requested(), facts.progressed("routed"), facts.streamed(0), facts.completed()]
    store.record_batch(changes)
    before = read(store)
    store.record_batch(changes)
    assert read(store) == before


def test_parts_read_in_one_poll_with_their_terminal_go_in_before_it(store, facts):
    store.accept(facts.row())
    store.record_batch([facts.completed(), facts.streamed(0), facts.progressed("running")])
    assert kinds(read(store)) == ["state", "chunk", "state", "terminal"]


def test_a_part_read_after_its_terminal_goes_in_before_it(store, facts):
    store.accept(facts.row())
    store.record_batch([facts.streamed(0)])
    store.record_batch([facts.completed()])
    store.record_batch([facts.streamed(1)])
    assert kinds(read(store)) == ["state", "chunk", "chunk", "terminal"]


def test_a_part_after_a_failure_is_dropped(store, facts):
    store.accept(facts.row())
    store.record_batch([facts.failed("cancelled", 409)])
    store.record_batch([facts.streamed(0)])
    assert kinds(read(store)) == ["state", "terminal"]
