import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import insert

from functions.ports.store import BatchRow, CallbackTarget, Claim, FileRow, KeyUse
from functions.sql.request_writer import RequestWriter
from functions.sql.tables import idempotency_keys

AT_ONCE = 20


@pytest.fixture
def use(clock):
    """`use("a")`: the key `k` of the tenant `one` with a body of that hash, now."""

    def made(body_hash="a", **fields):
        values = {"tenant": "one", "key": "k", "at": clock.now(), **fields}
        return KeyUse(body_hash=body_hash, **values)

    return made


@pytest.fixture
def makers(store, clock):
    """By name, `make(id, key)` for everything that a key can stand for."""
    soon = clock.now() + timedelta(hours=1)

    def batch(made_id, key, limit=None):
        row = BatchRow(
            id=made_id,
            tenant="one",
            endpoint="/v1/embeddings",
            input_file_id="file-1",
            completion_window="1h",
            status="validating",
            created_at=clock.now(),
            deadline=soon,
        )
        return store.add_batch(row, key=key, limit=limit)

    def file(made_id, key):
        row = FileRow(
            id=made_id,
            tenant="one",
            filename="f",
            purpose="batch",
            bytes=1,
            created_at=clock.now(),
            ref="blob:x",
        )
        return store.add_file(row, key=key)

    def target(made_id, key):
        return store.add_target(aimed(made_id), key=key)

    return {"batch": batch, "file": file, "target": target}


def aimed(made_id="cb_1", secret="whsec_1"):
    return CallbackTarget(id=made_id, tenant="one", url="https://a.example.org/", secret=secret)


def at_once(work, count=AT_ONCE):
    """What `work(number)` returned for each number, called by as many threads in the same moment."""
    ready = threading.Barrier(count, timeout=20)

    def run(number):
        ready.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_a_key_is_claimed_joined_or_in_conflict(store, facts, use):
    first = store.accept(facts.row("r1", tenant="one"), key=use("a"))
    assert first == Claim(kind="new", id="r1")
    again = store.accept(facts.row("r2", tenant="one"), key=use("a"))
    assert again == store.find_claim(use("a")) == Claim(kind="joined", id="r1")
    other = store.accept(facts.row("r3", tenant="one"), key=use("b"))
    assert other == store.find_claim(use("b")) == Claim(kind="conflict", id="r1")
    assert store.request("r2") is None
    assert store.request("r3") is None


def test_another_tenants_key_is_another_key(store, facts, use):
    store.accept(facts.row("r1", tenant="one"), key=use("a"))
    found = store.accept(facts.row("r2", tenant="two"), key=use("b", tenant="two"))
    assert found.kind == "new"


def test_a_request_that_was_withdrawn_frees_its_own_key_only(store, facts, use):
    store.accept(facts.row("r1", tenant="one"), key=use("a"))
    store.withdraw("r2", use("a"))
    assert store.find_claim(use("a")).kind == "joined"
    store.withdraw("r1", use("a"))
    assert store.find_claim(use("a")) is None
    assert store.request("r1") is None
    assert store.accept(facts.row("r4", tenant="one"), key=use("b")).kind == "new"


def test_a_key_is_forgotten_after_a_day(store, facts, use, clock):
    store.accept(facts.row("r1", tenant="one"), key=use("a"))
    clock.advance(24 * 3600 + 1)
    assert store.find_claim(use("b")) is None
    assert store.accept(facts.row("r2", tenant="one"), key=use("b")).kind == "new"
    assert store.find_claim(use("b")) == Claim(kind="joined", id="r2")


def test_a_key_remembers_that_its_request_was_deleted(store, facts, use):
    store.accept(facts.row("r1", tenant="one"), key=use("a"))
    store.forget("r1")
    gone = Claim(kind="gone", id="r1")
    assert store.find_claim(use("a")) == gone
    assert store.accept(facts.row("r2", tenant="one"), key=use("a")) == gone


def test_a_claim_that_points_to_nothing_is_taken_over(store, facts, use, clock):
    orphan = {"tenant": "one", "key": "k", "body_hash": "a", "request_id": "never"}
    with store._db.write() as connection:
        connection.execute(insert(idempotency_keys).values(**orphan, claimed_at=clock.now()))
    assert store.find_claim(use("a")) is None
    assert store.accept(facts.row("r1", tenant="one"), key=use("a")).kind == "new"
    assert store.find_claim(use("a")) == Claim(kind="joined", id="r1")


def test_a_key_is_claimed_with_its_request_or_not_at_all(store, facts, use, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RequestWriter, "accept", killed)
        with pytest.raises(KeyboardInterrupt):
            store.accept(facts.row("r1", tenant="one"), key=use("a"))
    assert store.find_claim(use("a")) is None


def test_one_key_makes_one_request_whoever_tries_at_once(store, facts, use):
    claims = at_once(
        lambda number: store.accept(facts.row(f"r{number}", tenant="one"), key=use("a"))
    )
    assert [claim.kind for claim in claims].count("new") == 1
    assert len({claim.id for claim in claims}) == 1
    assert store.unfinished(tenant="one") == 1


@pytest.mark.parametrize("kind", ["batch", "file", "target"])
def test_one_key_makes_one_of_everything_else_too(makers, use, kind):
    claims = at_once(lambda number: makers[kind](f"{kind}-{number}", use("a")))
    assert [claim.kind for claim in claims].count("new") == 1
    assert len({claim.id for claim in claims}) == 1


def test_the_first_secret_of_a_url_stays_whoever_names_it_at_once(store):
    found = at_once(lambda number: store.named_target(aimed(secret=f"whsec_{number}")))
    assert len({target.secret for target in found}) == 1
    assert store.target("cb_1") == found[0]


def test_a_url_that_is_named_again_is_called_again(store):
    first = store.named_target(aimed())
    store.disable_target("cb_1")
    assert store.named_target(replace(aimed(), secret="whsec_2")) == first
    assert store.target("cb_1") == first


def test_a_key_remembers_that_its_target_was_disabled(store, makers, use):
    makers["target"]("cb_1", use("a"))
    store.disable_target("cb_1")
    assert makers["target"]("cb_2", use("a")) == Claim(kind="gone", id="cb_1")


def test_the_key_of_a_deleted_file_is_free(store, makers, use):
    makers["file"]("file-1", use("a"))
    store.delete_file("file-1")
    assert makers["file"]("file-2", use("a")) == Claim(kind="new", id="file-2")


# Limits
def test_a_tenant_has_no_more_unfinished_requests_than_it_may(store, facts):
    claims = at_once(lambda number: store.accept(facts.row(f"r{number}", tenant="one"), limit=5))
    assert [claim.kind for claim in claims].count("new") == 5
    assert {claim.kind for claim in claims} == {"new", "full"}
    assert store.unfinished(tenant="one") == 5
    assert store.accept(facts.row("other", tenant="two"), limit=5).kind == "new"
    store.record_batch([facts.completed(next(c.id for c in claims if c.kind == "new"))])
    assert store.accept(facts.row("next", tenant="one"), limit=5).kind == "new"


def test_a_tenant_has_no_more_open_batches_than_it_may(store, makers):
    claims = at_once(lambda number: makers["batch"](f"b{number}", None, limit=3))
    assert [claim.kind for claim in claims].count("new") == 3
    assert len(store.open_batches()) == 3


def test_what_there_is_no_room_for_claims_no_key(store, facts, use):
    store.accept(facts.row("r1", tenant="one"), limit=1)
    assert store.accept(facts.row("r2", tenant="one"), key=use("a"), limit=1).kind == "full"
    assert store.find_claim(use("a")) is None
    assert store.request("r2") is None


def test_what_was_made_before_needs_no_room(store, facts, use):
    store.accept(facts.row("r1", tenant="one"), key=use("a"), limit=1)
    assert store.accept(facts.row("r2", tenant="one"), key=use("a"), limit=1).kind == "joined"
    assert store.accept(facts.row("r1", tenant="one"), limit=1).kind == "joined"
