"""The breaker of a provider's model, as it goes over time."""

from worker.breaker import (
    FAILURES_IN_A_ROW,
    FIRST_PAUSE_SECONDS,
    JITTER,
    MAX_PAUSE_SECONDS,
    REFUSED_PAUSE_SECONDS,
    SAMPLE,
    Breaker,
)


def opened() -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES_IN_A_ROW):
        breaker.failed(began=0.0, now=1.0)
    assert not breaker.closed
    return breaker


def test_a_failure_now_and_then_does_not_open_it() -> None:
    breaker = Breaker()
    for number in range(1000):
        if number % 20:
            breaker.succeeded(began=number, now=number)
        else:
            breaker.failed(began=number, now=number)
    assert breaker.closed


def test_a_run_of_failures_opens_it_and_then_only_one_probe_may_begin() -> None:
    breaker = opened()
    assert not breaker.may_begin(1.0 + FIRST_PAUSE_SECONDS * (1 - JITTER) - 0.01)
    later = 1.0 + FIRST_PAUSE_SECONDS * (1 + JITTER)
    assert breaker.may_begin(later)
    breaker.begin()
    assert not breaker.may_begin(later + 100)


def test_half_of_many_failing_opens_it_also_when_they_do_not_follow_each_other() -> None:
    breaker = Breaker()
    for number in range(SAMPLE):
        (breaker.failed if number % 2 else breaker.succeeded)(began=1.0, now=1.0)
    assert not breaker.closed


def test_a_probe_that_succeeds_closes_it() -> None:
    breaker = opened()
    breaker.begin()
    assert breaker.succeeded(began=3.0, now=3.5)
    assert breaker.closed
    assert breaker.may_begin(3.5)


def test_a_probe_that_fails_makes_the_next_wait_longer_up_to_a_bound() -> None:
    breaker = opened()
    now = 1.0
    pauses = []
    for _ in range(8):
        assert breaker.probes_at is not None
        pauses.append(breaker.probes_at - now)
        now = breaker.probes_at
        breaker.begin()
        breaker.failed(began=now, now=now)
    assert pauses[3] > pauses[0]
    assert max(pauses) <= MAX_PAUSE_SECONDS * (1 + JITTER)


def test_calls_that_were_under_way_when_it_opened_neither_close_it_nor_keep_it_open_longer() -> None:
    breaker = opened()
    until = breaker.probes_at
    assert not breaker.succeeded(began=0.5, now=1.1)
    assert not breaker.failed(began=0.5, now=1.2)
    assert breaker.probes_at == until


def test_one_word_that_no_call_will_succeed_is_enough() -> None:
    breaker = Breaker()
    assert breaker.refused(began=0.0, now=1.0)
    assert not breaker.may_begin(1.0 + REFUSED_PAUSE_SECONDS * (1 - JITTER) - 0.1)


def test_a_probe_that_was_dropped_leaves_its_place_to_another() -> None:
    breaker = opened()
    breaker.begin()
    breaker.abandoned()
    assert breaker.may_begin(100.0)
