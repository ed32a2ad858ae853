from dataclasses import replace
from datetime import timedelta

from functions.ports.store import CallbackTarget, Delivery


def delivery(number, clock, target="t1"):
    return Delivery(
        id=f"d{number}",
        request_id=f"r{number}",
        target_id=target,
        body=b"{}",
        attempt=0,
        due_at=clock.now(),
    )


def targets_of(store, tenant, *ids):
    for target_id in ids:
        store.add_target(
            CallbackTarget(id=target_id, tenant=tenant, url="https://a.example", secret="x")
        )


def take(store, clock, **options):
    return [found.id for found in store.due_deliveries(clock.now(), 10, **options)]


def test_one_request_has_one_delivery(store, clock):
    assert store.enqueue_delivery(delivery(1, clock))
    assert not store.enqueue_delivery(delivery(1, clock))
    assert not store.enqueue_delivery(replace(delivery(1, clock), id="of another terminal"))


def test_a_delivery_taken_is_not_due_until_its_lease_ends(store, clock):
    store.enqueue_delivery(delivery(1, clock))
    assert take(store, clock, lease_s=30) == ["d1"]
    assert take(store, clock) == []
    clock.advance(30)
    assert take(store, clock) == ["d1"]


def test_a_delivery_is_due_when_its_time_has_come(store, clock):
    store.enqueue_delivery(replace(delivery(1, clock), due_at=clock.now() + timedelta(seconds=5)))
    assert take(store, clock) == []
    clock.advance(5)
    assert take(store, clock) == ["d1"]


def test_one_target_gets_a_bounded_number_at_once(store, clock):
    for number in range(6):
        store.enqueue_delivery(delivery(number, clock))
    store.enqueue_delivery(delivery(7, clock, target="t2"))
    first = take(store, clock, per_target=2)
    assert len(first) == 3
    assert "d7" in first
    assert take(store, clock, per_target=2) == []
    mine = next(found for found in store.deliveries("r0"))
    store.update_delivery(replace(mine, attempt=1, state="delivered"))
    assert len(take(store, clock, per_target=2)) == 1


def test_one_tenant_gets_a_bounded_number_at_once_and_tenants_take_turns(store, clock):
    targets_of(store, "many", *(f"m{n}" for n in range(9)))
    targets_of(store, "few", "f1", "f2")
    for number in range(9):
        store.enqueue_delivery(delivery(number, clock, target=f"m{number}"))
    clock.advance(1)
    store.enqueue_delivery(delivery(10, clock, target="f1"))
    store.enqueue_delivery(delivery(11, clock, target="f2"))
    found = store.due_deliveries(clock.now(), 4, per_tenant=3)
    assert sorted(one.target_id for one in found) == ["f1", "f2", "m0", "m1"]
    assert [one.target_id for one in store.due_deliveries(clock.now(), 4, per_tenant=3)] == ["m2"]
    assert take(store, clock, per_tenant=3) == []
    store.update_delivery(replace(found[0], attempt=1, state="delivered"))
    assert len(take(store, clock, per_tenant=3)) == 1


def test_one_busy_target_of_a_tenant_keeps_none_of_its_others_waiting(store, clock):
    targets_of(store, "one", "busy", "quick")
    for number in range(20):
        store.enqueue_delivery(delivery(number, clock, target="busy"))
    clock.advance(1)
    store.enqueue_delivery(delivery(99, clock, target="quick"))
    assert sorted(take(store, clock, per_target=2, per_tenant=4)) == ["d0", "d1", "d99"]


def test_a_finished_delivery_keeps_no_body(store, clock):
    store.enqueue_delivery(delivery(1, clock))
    (taken,) = store.due_deliveries(clock.now(), 10)
    store.update_delivery(replace(taken, attempt=1, state="delivered", last_outcome="status 200"))
    (kept,) = store.deliveries("r1")
    assert (kept.state, kept.attempt, kept.body) == ("delivered", 1, b"")
    clock.advance(3600)
    assert take(store, clock) == []


def test_a_delivery_put_back_is_due_again(store, clock):
    store.enqueue_delivery(delivery(1, clock))
    (taken,) = store.due_deliveries(clock.now(), 10)
    later = clock.now() + timedelta(seconds=5)
    store.update_delivery(replace(taken, attempt=1, due_at=later, last_outcome="status 500"))
    clock.advance(5)
    (again,) = store.due_deliveries(clock.now(), 10)
    assert (again.attempt, again.body) == (1, b"{}")


def test_a_target_stays_as_it_was_registered_until_it_is_disabled(store):
    target = CallbackTarget(id="t1", tenant="one", url="https://a.example.com", secret="whsec_x")
    store.add_target(target)
    store.add_target(replace(target, tenant="two", url="https://evil.example.com"))
    assert store.target("t1") == target
    assert store.add_target(replace(target, secret="whsec_y")).kind == "joined"
    assert store.target("t1") == target
    store.disable_target("t1")
    assert store.target("t1").is_disabled
    assert store.target("t2") is None
