"""Meter events at the stand-in for Stripe: each identifier counts once in a day, and summaries are sums of these."""

import pytest
import stripe

from tests.stripe_shop import DAY, HOUR, START, Shop

REFUSED_VALUES = ["", "1.5", "1e3", "x", "9" * 16, "٣"]


def summaries(shop: Shop, customer: str, start: int, end: int, window: str | None = None) -> list[tuple[int, float]]:
    """Beginning and value of each, the oldest first."""
    params: stripe.params.billing.MeterListEventSummariesParams = {
        "customer": customer,
        "start_time": start,
        "end_time": end,
        "limit": 7,
    }
    if window is not None:
        params["value_grouping_window"] = window
    found = shop.v1.billing.meters.event_summaries.list(shop.meter, params).auto_paging_iter()
    return sorted((one.start_time, one.aggregated_value) for one in found)


def test_a_repeated_identifier_is_refused_as_stripe_does_and_counts_once(shop: Shop) -> None:
    customer, _ = shop.customer()
    shop.use(customer, 25, identifier="acct-1-1")
    with pytest.raises(stripe.InvalidRequestError) as error:
        shop.use(customer, 26, identifier="acct-1-1")
    assert error.value.user_message == "An event already exists with identifier acct-1-1."
    assert error.value.http_status == 400
    assert error.value.headers is not None
    assert error.value.headers["Stripe-Should-Retry"] == "false"
    assert summaries(shop, customer, START - HOUR, START + HOUR) == [(START - HOUR, 25.0)]
    told = shop.standin.admin("GET", f"meter_events?customer={customer}")
    sent = told["identifiers"]["acct-1-1"]
    assert (sent["attempts"], sent["counted"]) == (2, 1)
    assert [value["value"] for value in sent["values"]] == ["25", "26"]
    assert told["totals"][customer] == 25


def test_an_identifier_is_forgotten_after_a_day_and_then_counts_again(shop: Shop) -> None:
    customer, clock = shop.customer()
    shop.use(customer, 25, identifier="acct-2-1")
    shop.advance(clock, START + DAY - 1)
    with pytest.raises(stripe.InvalidRequestError):
        shop.use(customer, 25, identifier="acct-2-1")
    shop.advance(clock, START + DAY)
    shop.use(customer, 25, identifier="acct-2-1")
    assert shop.standin.admin("GET", "meter_events")["totals"][customer] == 50


@pytest.mark.parametrize(("offset", "taken"), [(-35 * DAY, True), (-35 * DAY - 1, False), (300, True), (301, False)])
def test_a_time_is_taken_from_35_days_back_to_5_minutes_ahead(shop: Shop, offset: int, taken: bool) -> None:
    customer, _ = shop.customer()
    if taken:
        shop.use(customer, 1, at=START + offset)
    else:
        with pytest.raises(stripe.InvalidRequestError) as error:
            shop.use(customer, 1, at=START + offset)
        assert error.value.param == "timestamp"


@pytest.mark.parametrize("value", REFUSED_VALUES)
def test_a_value_is_a_whole_number(shop: Shop, value: str) -> None:
    customer, _ = shop.customer()
    payload = {"stripe_customer_id": customer, "value": value}
    with pytest.raises(stripe.InvalidRequestError) as error:
        shop.v1.billing.meter_events.create({"event_name": shop.event_name, "payload": payload})
    assert error.value.param == "payload[value]"


def test_an_event_needs_a_living_customer_an_active_meter_and_a_short_identifier(shop: Shop) -> None:
    customer, _ = shop.customer()
    with pytest.raises(stripe.InvalidRequestError):
        shop.use("cus_none", 1)
    with pytest.raises(stripe.InvalidRequestError):
        shop.use(customer, 1, identifier="x" * 101)
    shop.use(customer, 1, identifier="x" * 100)
    shop.v1.billing.meters.deactivate(shop.meter)
    with pytest.raises(stripe.InvalidRequestError):
        shop.use(customer, 1)
    shop.v1.billing.meters.reactivate(shop.meter)
    shop.use(customer, 1)
    shop.v1.customers.delete(customer)
    with pytest.raises(stripe.InvalidRequestError):
        shop.use(customer, 1)


def test_summaries_are_of_hours_of_days_or_of_the_whole_time(shop: Shop) -> None:
    customer, _ = shop.customer()
    day = START // DAY * DAY
    for hours in range(-30, 1):
        shop.use(customer, 10, at=START + hours * HOUR)
    by_hour = summaries(shop, customer, START - 30 * HOUR, START + HOUR, "hour")
    assert by_hour == [(START + hours * HOUR, 10.0) for hours in range(-30, 1)]
    by_day = summaries(shop, customer, day - 2 * DAY, day + DAY, "day")
    assert [moment for moment, _ in by_day] == [day - DAY * 2 + DAY * number for number in range(3)][-len(by_day) :]
    assert sum(value for _, value in by_day) == 310
    # Its end does not belong to it.
    assert summaries(shop, customer, START - HOUR, START) == [(START - HOUR, 10.0)]
    assert summaries(shop, customer, START - 60, START) == [(START - 60, 0.0)]


@pytest.mark.parametrize(
    ("start", "end", "window"), [(30, HOUR, None), (60, HOUR, "hour"), (HOUR, DAY, "day"), (60, 60, None)]
)
def test_the_times_of_summaries_are_aligned_and_in_order(shop: Shop, start: int, end: int, window: str | None) -> None:
    customer, _ = shop.customer()
    with pytest.raises(stripe.InvalidRequestError):
        summaries(shop, customer, start, end, window)


def test_a_summary_may_lag_behind_what_came_in(shop: Shop) -> None:
    customer, clock = shop.customer()
    shop.standin.admin("PUT", "settings", summary_delay_seconds=60)
    shop.use(customer, 5)
    assert summaries(shop, customer, START - HOUR, START + HOUR) == [(START - HOUR, 0.0)]
    shop.advance(clock, START + 60)
    assert summaries(shop, customer, START - HOUR, START + HOUR) == [(START - HOUR, 5.0)]


def test_what_was_lost_on_the_way_is_told_with_its_end(shop: Shop) -> None:
    customer, _ = shop.customer()
    path = "/v1/billing/meter_events"
    for fault, counted in (("error", 0), ("drop", 0), ("rate_limit", 0), ("error_after", 1), ("drop_after", 1)):
        shop.standin.admin("PUT", "settings", faults=[{"fault": fault, "path": path}])
        with pytest.raises(stripe.StripeError):
            shop.use(customer, 7, identifier=f"{customer}-{fault}")
        shop.standin.admin("PUT", "settings")
        sent = shop.standin.admin("GET", f"meter_events?customer={customer}")["identifiers"][f"{customer}-{fault}"]
        assert (sent["counted"], sent["outcomes"]) == (counted, {fault: 1})
