"""Token buckets of the gateway: what they allow, give back, and never do to others."""

from __future__ import annotations

import pytest

from sshgate import limits
from sshgate.limits import Admission, Guessing
from workspaces import throttle


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def tries(guessing: Guessing, account: str, address: str, count: int = 20) -> int:
    """How many of `count` attempts may be made at once."""
    return sum(guessing.take(account, address) == 0 for _ in range(count))


def test_an_account_is_guessed_at_a_few_times_then_slowly(clock: Clock) -> None:
    guessing = Guessing(clock)
    assert tries(guessing, "alice", "192.0.2.1") == limits.GUESS_ACCOUNT.burst
    wait = guessing.take("alice", "192.0.2.1")
    assert 0 < wait <= limits.GUESS_ACCOUNT.every
    clock.now += wait
    assert tries(guessing, "alice", "192.0.2.1") == 1


def test_guesses_from_one_address_do_not_lock_the_owner_out_elsewhere(clock: Clock) -> None:
    guessing = Guessing(clock)
    tries(guessing, "alice", "192.0.2.1")
    assert guessing.take("alice", "192.0.2.2") == 0


def test_an_address_is_limited_over_all_accounts(clock: Clock) -> None:
    guessing = Guessing(clock)
    assert sum(tries(guessing, f"user{i}", "192.0.2.1", 1) for i in range(500)) == limits.GUESS_ADDRESS.burst


def test_a_flood_from_everywhere_leaves_those_in_who_were_here_before(clock: Clock) -> None:
    guessing = Guessing(clock)
    guessing.remember("alice", "192.0.2.7")
    assert sum(tries(guessing, "alice", f"198.51.100.{i}") for i in range(250)) == limits.GUESS_TOTAL.burst
    assert guessing.take("bob", "203.0.113.1") > 0
    assert guessing.take("alice", "192.0.2.7") == 0


def test_the_right_password_forgives_the_mistakes_before_it(clock: Clock) -> None:
    guessing = Guessing(clock)
    for _ in range(50):
        assert tries(guessing, "alice", "192.0.2.1", 3) == 3
        guessing.right("alice", "192.0.2.1")


def test_buckets_are_forgotten_when_there_are_too_many(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MAX_TRACKED", 10)
    buckets = throttle.Buckets(limits.GUESS_ACCOUNT, clock)
    for i in range(100):
        buckets.take(i)
    assert len(buckets._rows) == 10


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_addresses_of_one_host(first: str, second: str, same: bool) -> None:
    assert (throttle.network(first) == throttle.network(second)) is same


def test_connections_that_do_not_authenticate_are_few_for_one_address(clock: Clock) -> None:
    admission = Admission(clock)
    admitted = sum(admission.enter("192.0.2.1") for _ in range(1000))
    assert admitted == limits.MAX_UNAUTHENTICATED_ADDRESS
    assert admission.enter("192.0.2.2")
    for _ in range(admitted):
        admission.leave("192.0.2.1", None)
    assert admission.enter("192.0.2.1")


def test_connecting_again_and_again_runs_out_of_tokens(clock: Clock) -> None:
    admission = Admission(clock)
    count = 0
    while admission.enter("192.0.2.1"):
        admission.leave("192.0.2.1", None)
        count += 1
    assert count == limits.CONNECT.burst
    clock.now += limits.CONNECT.every
    assert admission.enter("192.0.2.1")


def test_logging_in_again_and_again_does_not(clock: Clock) -> None:
    admission = Admission(clock)
    for _ in range(10 * int(limits.CONNECT.burst)):
        assert admission.enter("192.0.2.1")
        assert admission.authenticated("192.0.2.1", "alice")
        admission.leave("192.0.2.1", "alice")


def test_one_account_cannot_take_all_connections(clock: Clock) -> None:
    admission = Admission(clock)
    allowed = 0
    for _ in range(100):
        assert admission.enter("192.0.2.1")
        allowed += admission.authenticated("192.0.2.1", "alice")
    assert allowed == limits.MAX_ACCOUNT_CONNECTIONS
    assert admission.enter("192.0.2.1")
    assert admission.authenticated("192.0.2.1", "bob")


@pytest.mark.slow
def test_all_connections_together_are_bounded(clock: Clock) -> None:
    admission = Admission(clock)
    for i in range(limits.MAX_CONNECTIONS):
        assert admission.enter(f"2001:db8:{i:x}::1")
        assert admission.authenticated(f"2001:db8:{i:x}::1", f"user{i}")
    assert not admission.enter("192.0.2.1")
