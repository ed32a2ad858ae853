"""A request's life as a state machine: every event may come in any order and any number of times."""

import json

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from events.names import State
from functions.sql.sql_store import SqlStore
from functions.sql.state_machine import RANKS
from functions.testing.fake_clock import FakeClock
from tests.unit.store.conftest import START, Facts

IDS = st.sampled_from(["r1", "r2"])
FAILURES = {
    "backend_failed": (502, State.FAILED),
    "deadline_exceeded": (504, State.EXPIRED),
    "cancelled": (409, State.CANCELLED),
}


class Lives(RuleBasedStateMachine):
    """Compares the store with the simplest model: the first terminal read, and whether the request was."""

    @initialize()
    def open(self):
        self.clock = FakeClock(START)
        self.facts = Facts(self.clock)
        self.store = SqlStore("sqlite://", self.clock)
        self.known = set()
        self.first = {}
        self.seen = {}
        self.history = []

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()

    def record(self, *changes):
        self.history.extend(changes)
        return self.store.record_batch(changes)

    @rule(request_id=IDS)
    def accept(self, request_id):
        claim = self.store.accept(self.facts.row(request_id), self.facts.record())
        assert (claim.kind == "new") == (request_id not in self.known)
        self.known.add(request_id)

    @rule(request_id=IDS, offset=st.integers(0, 9))
    def read_request(self, request_id, offset):
        self.record(self.facts.requested(request_id, offset))
        self.known.add(request_id)

    @rule(request_id=IDS, state=st.sampled_from(["routed", "running"]), attempt=st.integers(0, 3))
    def read_progress(self, request_id, state, attempt):
        self.record(self.facts.progressed(state, request_id, attempt))

    @rule(request_id=IDS, sequence=st.integers(0, 5))
    def read_chunk(self, request_id, sequence):
        self.record(self.facts.streamed(sequence, request_id))

    @rule(request_id=IDS)
    def read_cancel(self, request_id):
        self.record(self.facts.cancel(request_id=request_id))

    @rule(request_id=IDS, text=st.sampled_from(["one", "two"]))
    def read_answer(self, request_id, text):
        self.end(self.facts.completed(request_id, text), request_id, (State.COMPLETED, text))

    @rule(request_id=IDS, code=st.sampled_from(sorted(FAILURES)))
    def read_failure(self, request_id, code):
        status, state = FAILURES[code]
        self.end(self.facts.failed(code, status, request_id), request_id, (state, code))

    def end(self, change, request_id, outcome):
        recorded = self.record(change)
        assert list(recorded.ended) == ([] if request_id in self.first else [request_id])
        first = self.first.setdefault(request_id, outcome)
        differs = {one for _, one in recorded.other_ends}
        assert ("state" in differs) == (first[0] is not outcome[0])
        if first[0] is outcome[0] is State.COMPLETED and request_id in self.known:
            assert ("answer" in differs) == (first != outcome)

    @rule()
    def read_everything_again(self):
        """The recorder was killed before its commit."""
        assert self.store.record_batch(self.history).ended == ()

    @invariant()
    def the_first_terminal_is_what_is_seen(self):
        for request_id in self.known if hasattr(self, "known") else ():
            row = self.store.request(request_id)
            if request_id not in self.first:
                assert not row.state.is_terminal
                rank = RANKS[row.state]
                assert rank >= self.seen.get(request_id, 0)
                self.seen[request_id] = rank
                continue
            state, detail = self.first[request_id]
            result = json.loads(row.result)
            found = result["text"] if state is State.COMPLETED else result["error"]["code"]
            assert (row.state, found) == (state, detail)
            assert row.finished_at is not None

    @invariant()
    def a_stream_ends_once_and_with_the_terminal(self):
        for request_id in self.known if hasattr(self, "known") else ():
            entries = self.store.events_after(request_id, 0, limit=1000)
            cursors = [entry.cursor for entry in entries]
            kinds = [entry.kind for entry in entries]
            assert cursors == sorted(set(cursors))
            assert kinds.count("terminal") == (request_id in self.first)
            assert "terminal" not in kinds[:-1]

    @invariant()
    def what_is_unfinished_adds_up(self):
        if hasattr(self, "known"):
            assert self.store.unfinished() == len(self.known - self.first.keys())


Lives.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestLives = Lives.TestCase
