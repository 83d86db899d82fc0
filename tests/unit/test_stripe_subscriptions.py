"""The life of a subscription at the stand-in for Stripe: periods, invoices by tiers, declined cards, and its end."""

from collections.abc import Callable

import pytest
import stripe

from tests.stripe_shop import DAY, HOUR, START, Shop

# 15 February 2027, at the same time of the day.
FIRST_END = START + 31 * DAY
LAST_DAY_OF_JANUARY = START + 16 * DAY


def told(shop: Shop, customer: str) -> list[str]:
    return [event.type for event in shop.events(customer)]


def lines(invoice: stripe.Invoice) -> list[tuple[str | None, int, int | None]]:
    return [(line.description, line.amount, line.quantity) for line in invoice.lines.data]


def fail_card(shop: Shop, customer: str, fails: bool = True) -> None:
    shop.standin.admin("POST", "cards", customer=customer, fails=fails)


def test_a_subscription_is_paid_at_once_and_then_active(shop: Shop) -> None:
    customer, _ = shop.customer()
    made = shop.v1.subscriptions.retrieve(shop.subscribe(customer, shop.plan()))
    assert made.status == "active"
    assert [item.current_period_start for item in made["items"].data] == [START, START]
    assert [item.current_period_end for item in made["items"].data] == [FIRST_END, FIRST_END]
    (invoice,) = shop.invoices(customer)
    assert (invoice.status, invoice.amount_paid, invoice.billing_reason) == ("paid", 4_900, "subscription_create")
    assert invoice.parent is not None
    assert invoice.parent.subscription_details is not None
    assert invoice.parent.subscription_details.subscription == made.id
    assert [name for name in told(shop, customer) if name != "customer.updated"] == [
        "customer.created",
        "invoice.created",
        "customer.subscription.created",
        "invoice.finalized",
        "invoice.paid",
        "invoice.payment_succeeded",
        "customer.subscription.updated",
    ]


def test_a_renewal_bills_the_next_period_and_the_usage_of_the_last_by_its_tiers(shop: Shop) -> None:
    customer, clock = shop.customer()
    subscription = shop.subscribe(customer, shop.plan(cents=4_900, included=1_000, over="0.4"))
    shop.use(customer, 900, at=START)
    shop.use(customer, 350)
    shop.advance(clock, FIRST_END)
    draft = shop.invoices(customer)[-1]
    assert (draft.status, draft.billing_reason) == ("draft", "subscription_cycle")
    assert shop.period_end(subscription) == FIRST_END + 28 * DAY
    # Of the period that is over, but late; and of the new one.
    shop.use(customer, 3, at=FIRST_END - 1)
    shop.use(customer, 5_000, at=FIRST_END)
    shop.advance(clock, FIRST_END + HOUR)
    paid = shop.invoices(customer)[-1]
    assert paid.status == "paid"
    # 253 tokens over, at 0.4 cents: 101.2.
    assert lines(paid) == [("1 x Pro", 4_900, 1), ("Pro: usage", 101, 1_253)]
    assert (paid.amount_paid, paid.total) == (5_001, 5_001)
    periods = [(line.period.start, line.period.end) for line in paid.lines.data]
    assert periods == [(FIRST_END, FIRST_END + 28 * DAY), (START, FIRST_END)]


@pytest.mark.parametrize(
    ("used", "cents"), [(0, 0), (1_000, 0), (1_001, 1), (1_003, 2), (3_000, 1_000), (4_000, 1_250)]
)
def test_each_tier_counts_what_lies_within_it_and_the_sum_is_rounded_once(shop: Shop, used: int, cents: int) -> None:
    product = shop.v1.products.create({"name": "Tiered"}).id
    price = shop.v1.prices.create(
        {
            "product": product,
            "currency": "usd",
            "billing_scheme": "tiered",
            "tiers_mode": "graduated",
            "tiers": [
                {"up_to": 1_000, "unit_amount": 0},
                {"up_to": 3_000, "unit_amount_decimal": "0.5"},  # type: ignore[typeddict-item]
                {"up_to": "inf", "unit_amount_decimal": "0.25"},  # type: ignore[typeddict-item]
            ],
            "recurring": {"interval": "month", "usage_type": "metered", "meter": shop.meter},
        }
    )
    customer, clock = shop.customer()
    shop.v1.subscriptions.create({"customer": customer, "items": [{"price": price.id}]})
    if used:
        shop.use(customer, used)
    shop.advance(clock, FIRST_END + HOUR)
    assert shop.invoices(customer)[-1].total == cents


def test_periods_end_on_the_day_they_began_or_on_the_last_of_a_short_month(shop: Shop) -> None:
    customer, clock = shop.customer(LAST_DAY_OF_JANUARY)
    subscription = shop.subscribe(customer, shop.plan())
    ends = []
    for _ in range(4):
        ends.append((shop.period_end(subscription) - LAST_DAY_OF_JANUARY) // DAY)
        shop.advance(clock, shop.period_end(subscription) + HOUR)
    # 28 February, 31 March, 30 April, 31 May.
    assert ends == [28, 59, 89, 120]


def test_a_long_jump_leaves_what_every_step_would_have_left(shop: Shop) -> None:
    stepped, step_clock = shop.customer()
    jumped, jump_clock = shop.customer()
    plan = shop.plan()
    for customer in (stepped, jumped):
        shop.subscribe(customer, plan)
    for days in range(0, 400, 10):
        shop.advance(step_clock, START + (days + 10) * DAY)
    shop.advance(jump_clock, START + 400 * DAY)
    seen = [
        [(invoice.created, invoice.status, invoice.total, invoice.period_end) for invoice in shop.invoices(customer)]
        for customer in (stepped, jumped)
    ]
    assert seen[0] == seen[1]
    assert len(seen[0]) == 14
    assert told(shop, stepped) == told(shop, jumped)


def test_a_declined_renewal_is_past_due_tried_again_and_paid_in_the_end(shop: Shop) -> None:
    customer, clock = shop.customer()
    subscription = shop.subscribe(customer, shop.plan())
    fail_card(shop, customer)
    shop.advance(clock, FIRST_END + HOUR)
    failed = shop.invoices(customer)[-1]
    assert (failed.status, failed.attempt_count) == ("open", 1)
    assert failed.next_payment_attempt == FIRST_END + HOUR + 3 * DAY
    assert shop.v1.subscriptions.retrieve(subscription).status == "past_due"
    with pytest.raises(stripe.CardError):
        shop.v1.invoices.pay(failed.id)
    assert shop.v1.invoices.retrieve(failed.id).attempt_count == 2
    fail_card(shop, customer, fails=False)
    shop.advance(clock, FIRST_END + HOUR + 3 * DAY)
    assert shop.v1.invoices.retrieve(failed.id).status == "paid"
    assert shop.v1.subscriptions.retrieve(subscription).status == "active"
    assert told(shop, customer).count("invoice.payment_failed") == 2


def test_an_older_invoice_that_is_declined_again_leaves_a_paid_subscription_active(shop: Shop) -> None:
    customer, clock = shop.customer()
    pro, team, most = shop.plan("Pro", 4_900), shop.plan("Team", 9_900), shop.plan("Most", 19_900)
    subscription = shop.subscribe(customer, pro)
    item = shop.v1.subscriptions.retrieve(subscription)["items"].data[0].id

    def switch(price: str) -> str:
        items: list[stripe.params.SubscriptionUpdateParamsItem] = [{"id": item, "price": price}]
        update: stripe.params.SubscriptionUpdateParams = {"items": items, "proration_behavior": "always_invoice"}
        return shop.v1.subscriptions.update(subscription, update).status

    fail_card(shop, customer)
    assert switch(team.licensed) == "past_due"
    fail_card(shop, customer, fails=False)
    assert switch(most.licensed) == "active"
    fail_card(shop, customer)
    shop.advance(clock, START + 3 * DAY)
    older = shop.invoices(customer)[1]
    assert (older.status, older.attempt_count) == ("open", 2)
    assert shop.v1.subscriptions.retrieve(subscription).status == "active"


def test_after_the_last_attempt_the_subscription_is_canceled(shop: Shop) -> None:
    customer, clock = shop.customer()
    subscription = shop.subscribe(customer, shop.plan())
    fail_card(shop, customer)
    shop.advance(clock, FIRST_END + HOUR + 15 * DAY - 1)
    assert shop.v1.subscriptions.retrieve(subscription).status == "past_due"
    shop.advance(clock, FIRST_END + HOUR + 15 * DAY)
    ended = shop.v1.subscriptions.retrieve(subscription)
    assert (ended.status, ended.ended_at) == ("canceled", FIRST_END + HOUR + 15 * DAY)
    assert ended.cancellation_details is not None
    assert ended.cancellation_details.reason == "payment_failed"
    assert told(shop, customer)[-1] == "customer.subscription.deleted"


def test_a_first_invoice_that_is_declined_is_incomplete_and_expires_unless_it_is_paid(shop: Shop) -> None:
    plan = shop.plan()
    for pays, status, invoice in ((True, "active", "paid"), (False, "incomplete_expired", "void")):
        customer, clock = shop.customer()
        fail_card(shop, customer)
        subscription = shop.subscribe(customer, plan)
        assert shop.v1.subscriptions.retrieve(subscription).status == "incomplete"
        if pays:
            fail_card(shop, customer, fails=False)
            shop.v1.invoices.pay(shop.invoices(customer)[0].id)
        shop.advance(clock, START + DAY)
        assert shop.v1.subscriptions.retrieve(subscription).status == status
        assert shop.invoices(customer)[0].status == invoice


def test_error_if_incomplete_leaves_nothing_of_a_declined_subscription(shop: Shop) -> None:
    customer, _ = shop.customer()
    fail_card(shop, customer)
    with pytest.raises(stripe.CardError):
        shop.v1.subscriptions.create(
            {"customer": customer, "items": shop.plan().items, "payment_behavior": "error_if_incomplete"}
        )
    assert shop.v1.subscriptions.list({"customer": customer, "status": "all"}).data == []
    assert shop.invoices(customer) == []


@pytest.mark.parametrize("past_due", [False, True])
@pytest.mark.parametrize("way", ["subscription", "item"])
def test_error_if_incomplete_leaves_a_subscription_as_it_was_when_its_change_is_declined(
    shop: Shop, past_due: bool, way: str
) -> None:
    customer, clock = shop.customer()
    pro, team = shop.plan("Pro", 4_900), shop.plan("Team", 9_900)
    subscription = shop.subscribe(customer, pro)
    fail_card(shop, customer)
    if past_due:
        shop.advance(clock, FIRST_END + HOUR)
    before = shop.v1.subscriptions.retrieve(subscription).to_dict()
    invoices, events = shop.invoices(customer), told(shop, customer)
    assert before["status"] == ("past_due" if past_due else "active")
    item = before["items"]["data"][0]["id"]
    calls: dict[str, Callable[[], object]] = {
        "subscription": lambda: shop.v1.subscriptions.update(
            subscription,
            {
                "items": [{"id": item, "price": team.licensed}],
                "proration_behavior": "always_invoice",
                "payment_behavior": "error_if_incomplete",
            },
        ),
        "item": lambda: shop.v1.subscription_items.update(
            item,
            {
                "price": team.licensed,
                "proration_behavior": "always_invoice",
                "payment_behavior": "error_if_incomplete",
            },
        ),
    }
    with pytest.raises(stripe.CardError) as declined:
        calls[way]()
    assert declined.value.http_status == 402
    assert shop.v1.subscriptions.retrieve(subscription).to_dict() == before
    assert shop.invoices(customer) == invoices
    assert told(shop, customer) == events


def test_a_cancel_at_period_end_ends_then_with_a_bill_for_the_last_usage(shop: Shop) -> None:
    customer, clock = shop.customer()
    subscription = shop.subscribe(customer, shop.plan(included=100, over="1"))
    marked = shop.v1.subscriptions.update(subscription, {"cancel_at_period_end": True})
    assert (marked.status, marked.cancel_at, marked.cancel_at_period_end) == ("active", FIRST_END, True)
    shop.use(customer, 150)
    shop.advance(clock, FIRST_END - 1)
    assert shop.v1.subscriptions.retrieve(subscription).status == "active"
    shop.advance(clock, FIRST_END)
    ended = shop.v1.subscriptions.retrieve(subscription)
    assert (ended.status, ended.ended_at, ended.canceled_at) == ("canceled", FIRST_END, START)
    shop.advance(clock, FIRST_END + HOUR)
    last = shop.invoices(customer)[-1]
    assert (last.status, lines(last)) == ("paid", [("Pro: usage", 50, 150)])
    # That invoice is paid after the end, and ends nothing and begins nothing.
    assert shop.v1.subscriptions.retrieve(subscription).status == "canceled"
    shop.advance(clock, FIRST_END + 90 * DAY)
    assert len(shop.invoices(customer)) == 2


def test_a_cancel_that_is_taken_back_renews(shop: Shop) -> None:
    customer, clock = shop.customer()
    subscription = shop.subscribe(customer, shop.plan())
    shop.v1.subscriptions.update(subscription, {"cancel_at_period_end": True})
    resumed = shop.v1.subscriptions.update(subscription, {"cancel_at_period_end": False})
    assert (resumed.cancel_at, resumed.canceled_at) == (None, None)
    shop.advance(clock, FIRST_END + HOUR)
    assert shop.v1.subscriptions.retrieve(subscription).status == "active"


def test_a_cancel_at_once_is_final(shop: Shop) -> None:
    customer, _ = shop.customer()
    subscription = shop.subscribe(customer, shop.plan())
    assert shop.v1.subscriptions.cancel(subscription).status == "canceled"
    with pytest.raises(stripe.InvalidRequestError):
        shop.v1.subscriptions.cancel(subscription)
    with pytest.raises(stripe.InvalidRequestError):
        shop.v1.subscriptions.update(subscription, {"cancel_at_period_end": False})
    assert shop.v1.subscriptions.list({"customer": customer}).data == []
    assert len(shop.v1.subscriptions.list({"customer": customer, "status": "canceled"}).data) == 1


def test_deleting_a_customer_ends_its_subscriptions_first(shop: Shop) -> None:
    customer, _ = shop.customer()
    shop.subscribe(customer, shop.plan())
    shop.v1.customers.delete(customer)
    assert told(shop, customer)[-2:] == ["customer.subscription.deleted", "customer.deleted"]


@pytest.mark.parametrize(
    ("proration", "billed"),
    [("always_invoice", [2_500]), ("create_prorations", []), ("none", [])],
)
def test_a_switch_gives_back_what_is_unused_and_bills_what_remains(
    shop: Shop, proration: str, billed: list[int]
) -> None:
    customer, clock = shop.customer()
    pro, team = shop.plan("Pro", 4_900), shop.plan("Team", 9_900)
    subscription = shop.v1.subscriptions.retrieve(shop.subscribe(customer, pro))
    shop.advance(clock, START + 31 * DAY // 2)
    licensed, metered = subscription["items"].data
    switched = shop.v1.subscriptions.update(
        subscription.id,
        {
            "items": [{"id": licensed.id, "price": team.licensed}, {"id": metered.id, "price": team.metered}],
            "proration_behavior": proration,
        },
    )
    assert [item.price.id for item in switched["items"].data] == [team.licensed, team.metered]
    assert [item.id for item in switched["items"].data] == [licensed.id, metered.id]
    assert [invoice.total for invoice in shop.invoices(customer)[1:]] == billed
    shop.advance(clock, FIRST_END + HOUR)
    pending = 2_500 if proration == "create_prorations" else 0
    assert shop.invoices(customer)[-1].total == 9_900 + pending


def test_what_a_smaller_plan_gives_back_is_kept_for_the_next_invoice(shop: Shop) -> None:
    customer, clock = shop.customer()
    pro, team = shop.plan("Pro", 4_900), shop.plan("Team", 9_900)
    subscription = shop.v1.subscriptions.retrieve(shop.subscribe(customer, team))
    licensed = subscription["items"].data[0]
    shop.v1.subscription_items.update(licensed.id, {"price": pro.licensed, "proration_behavior": "always_invoice"})
    assert shop.invoices(customer)[-1].amount_due == 0
    assert shop.v1.customers.retrieve(customer).balance == -5_000
    shop.advance(clock, FIRST_END + HOUR)
    assert shop.invoices(customer)[-1].amount_paid == 0
    assert shop.v1.customers.retrieve(customer).balance == -100


def test_items_that_cannot_be_together_are_refused(shop: Shop) -> None:
    customer, _ = shop.customer()
    plan = shop.plan()
    once = shop.v1.prices.create({"product": plan.product, "currency": "usd", "unit_amount": 1}).id
    yearly = shop.v1.prices.create(
        {"product": plan.product, "currency": "usd", "unit_amount": 1, "recurring": {"interval": "year"}}
    ).id
    refused: list[list[stripe.params.SubscriptionCreateParamsItem]] = [
        [],
        [{"price": "price_none"}],
        [{"price": once}],
        [{"price": plan.licensed}, {"price": plan.licensed}],
        [{"price": plan.licensed}, {"price": yearly}],
        [{"price": plan.metered, "quantity": 1}],
    ]
    for items in refused:
        with pytest.raises(stripe.InvalidRequestError):
            shop.v1.subscriptions.create({"customer": customer, "items": items})


def test_the_time_of_all_without_a_clock_moves_together(shop: Shop) -> None:
    customer = shop.v1.customers.create({"email": "ada@example.com"}).id
    subscription = shop.subscribe(customer, shop.plan())
    end = shop.period_end(subscription)
    assert shop.standin.admin("POST", "advance", to=end + 1)["now"] >= end
    assert shop.period_end(subscription) > end
    assert shop.invoices(customer)[-1].created == end
