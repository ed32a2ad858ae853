from functions.store import Claim

KEY = {"tenant": "one", "key": "k"}


def test_a_key_is_claimed_joined_or_in_conflict(store, clock):
    now = clock.now()
    first = store.claim_key(**KEY, body_hash="a", request_id="r1", now=now)
    assert first == Claim(kind="new", request_id="r1")
    again = store.claim_key(**KEY, body_hash="a", request_id="r2", now=now)
    assert again == Claim(kind="joined", request_id="r1")
    other = store.claim_key(**KEY, body_hash="b", request_id="r3", now=now)
    assert other == Claim(kind="conflict", request_id="r1")


def test_another_tenants_key_is_another_key(store, clock):
    store.claim_key(**KEY, body_hash="a", request_id="r1", now=clock.now())
    found = store.claim_key(tenant="two", key="k", body_hash="b", request_id="r2", now=clock.now())
    assert found.kind == "new"


def test_only_its_own_claim_releases_a_key(store, clock):
    store.claim_key(**KEY, body_hash="a", request_id="r1", now=clock.now())
    store.release_key(**KEY, request_id="r2")
    assert store.claim_key(**KEY, body_hash="a", request_id="r3", now=clock.now()).kind == "joined"
    store.release_key(**KEY, request_id="r1")
    assert store.claim_key(**KEY, body_hash="b", request_id="r4", now=clock.now()).kind == "new"


def test_a_key_is_forgotten_after_a_day(store, clock):
    store.claim_key(**KEY, body_hash="a", request_id="r1", now=clock.now())
    clock.advance(24 * 3600 + 1)
    assert store.claim_key(**KEY, body_hash="b", request_id="r2", now=clock.now()).kind == "new"
