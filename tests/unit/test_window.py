"""The window of calls in flight to a provider, as it goes over time."""

from worker.window import REFUSALS, SHRINK, Window


def refused(window: Window, began: float, in_flight: int, times: int = REFUSALS) -> None:
    for _ in range(times):
        window.congested(began, in_flight, began + 1)


def test_a_window_begins_as_wide_as_it_may_be_and_never_grows_beyond() -> None:
    window = Window(10)
    for _ in range(100):
        window.succeeded(10)
    assert window.size == 10


def test_a_wave_of_refusals_shrinks_it_once() -> None:
    window = Window(100)
    refused(window, began=1.0, in_flight=100, times=30)
    assert window.size == int(100 * SHRINK)


def test_refusals_now_and_then_leave_it_as_it_is() -> None:
    window = Window(256)
    for number in range(10_000):
        if number % 100:
            window.succeeded(256)
        else:
            window.congested(began=float(number), in_flight=256, now=float(number))
    assert window.size == 256


def test_a_refusal_of_a_call_that_began_after_it_shrank_shrinks_it_again() -> None:
    window = Window(100)
    refused(window, began=1.0, in_flight=100)
    refused(window, began=3.0, in_flight=70)
    assert window.size == int(70 * SHRINK)


def test_it_never_closes() -> None:
    window = Window(4)
    for second in range(0, 100, 2):
        refused(window, began=second, in_flight=1)
    assert window.size == 1


def test_it_comes_back_quickly_to_just_below_where_it_shrank_and_slowly_from_there() -> None:
    window = Window(1000)
    refused(window, began=1.0, in_flight=100)
    for _ in range(21):
        window.succeeded(window.size)
    assert window.size in (90, 91)
    for _ in range(90):
        window.succeeded(window.size)
    assert window.size in (91, 92)


def test_a_success_that_nobody_waited_behind_does_not_widen_it() -> None:
    window = Window(1000)
    refused(window, began=1.0, in_flight=100)
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
