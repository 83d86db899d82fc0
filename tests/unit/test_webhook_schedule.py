"""When a delivery is attempted again."""

from common.webhook_schedule import DELAYS_SECONDS, MAX_ASKED_SECONDS, next_delay


def test_each_attempt_waits_for_its_delay_and_at_most_a_tenth_more() -> None:
    for attempts, seconds in enumerate(DELAYS_SECONDS):
        found = [next_delay(attempts) for _ in range(100)]
        assert all(delay is not None and seconds <= delay <= seconds * 1.1 for delay in found)
        # Receivers that were down together are not called together.
        assert len(set(found)) > 50 or seconds == 0


def test_after_the_last_attempt_there_is_none() -> None:
    assert next_delay(len(DELAYS_SECONDS)) is None
    assert next_delay(len(DELAYS_SECONDS), 60) is None


def test_a_receiver_gets_the_time_it_asks_for_but_no_more_than_a_day() -> None:
    assert next_delay(1, 90) == 90
    assert next_delay(1, 1e300) == MAX_ASKED_SECONDS


def test_a_receiver_cannot_ask_for_less_than_the_schedule() -> None:
    found = next_delay(2, 1)
    assert found is not None
    assert found >= DELAYS_SECONDS[2]
    assert (next_delay(2, -5) or 0) >= DELAYS_SECONDS[2]
