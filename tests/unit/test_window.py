"""The window of calls in flight to a provider, as it goes over time."""

from worker.window import SHRINK, Window


def test_a_window_begins_as_wide_as_it_may_be_and_never_grows_beyond() -> None:
    window = Window(10)
    for _ in range(100):
        window.succeeded(10)
    assert window.size == 10


def test_a_wave_of_refusals_shrinks_it_once() -> None:
    window = Window(100)
    for _ in range(30):
        window.congested(began=1.0, in_flight=100, now=2.0)
    assert window.size == int(100 * SHRINK)


def test_a_refusal_of_a_call_that_began_after_it_shrank_shrinks_it_again() -> None:
    window = Window(100)
    window.congested(began=1.0, in_flight=100, now=2.0)
    window.congested(began=3.0, in_flight=70, now=4.0)
    assert window.size == int(70 * SHRINK)


def test_it_never_closes() -> None:
    window = Window(4)
    for second in range(50):
        window.congested(began=second, in_flight=1, now=second + 0.5)
    assert window.size == 1


def test_it_comes_back_quickly_to_just_below_where_it_shrank_and_slowly_from_there() -> None:
    window = Window(1000)
    window.congested(began=1.0, in_flight=100, now=2.0)
    for _ in range(21):
        window.succeeded(window.size)
    assert window.size in (90, 91)
    for _ in range(90):
        window.succeeded(window.size)
    assert window.size in (91, 92)


def test_a_success_that_nobody_waited_behind_does_not_widen_it() -> None:
    window = Window(1000)
    window.congested(began=1.0, in_flight=100, now=2.0)
    for _ in range(50):
        window.succeeded(in_flight=3)
    assert window.size == int(100 * SHRINK)


def test_after_an_outage_it_restarts_small_and_is_back_within_a_few_rounds() -> None:
    window = Window(256)
    window.restart()
    assert window.size == 32
    rounds = 0
    while window.size < 230:
        for _ in range(window.size):
            window.succeeded(window.size)
        rounds += 1
    assert rounds <= 4
