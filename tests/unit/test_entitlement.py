"""What an account's subscriptions give it at a moment, whatever has been told of them until then."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from common.entitlement import Invoice, Standing, Subscription, standing

DAY = timedelta(days=1)
NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
BEGAN = NOW - 45 * DAY
PERIOD = NOW - 15 * DAY
PRICES = {"pro": 2_900, "team": 29_900}
GRACE = 7 * DAY

ACTIVE = Subscription("sub_1", True, "pro", "active", False, BEGAN, PERIOD, PERIOD + 30 * DAY, None, 2_900, "usd")
PAST_DUE = replace(ACTIVE, status="past_due")
PAID = Invoice("in_1", "sub_1", True, PERIOD, None)
FAILED = Invoice("in_1", "sub_1", False, PERIOD, PERIOD + DAY / 24)


def stand(*subscriptions: Subscription, invoices: tuple[Invoice, ...] = (), now: datetime = NOW) -> Standing:
    return standing(subscriptions, invoices, PRICES, now, GRACE)


def test_without_a_subscription_that_began_an_account_keeps_what_it_was_given() -> None:
    assert stand().plan is None
    for status in ("incomplete", "incomplete_expired"):
        found = stand(replace(ACTIVE, status=status))
        assert (found.state, found.plan, found.metered_from) == ("none", None, None)


@pytest.mark.parametrize("status", ["active", "trialing"])
def test_a_subscription_gives_its_plan_and_is_metered_from_its_beginning(status: str) -> None:
    found = stand(replace(ACTIVE, status=status), invoices=(PAID,))
    assert (found.state, found.plan, found.changes_at) == ("active", "pro", None)
    assert found.metered_from == BEGAN


@pytest.mark.parametrize("status", ["canceled", "active"])
def test_what_has_ended_gives_the_free_plan(status: str) -> None:
    found = stand(replace(ACTIVE, status=status, ended=True))
    assert (found.state, found.plan) == ("ended", "free")


@pytest.mark.parametrize("status", ["paused", "a word of next year"])
def test_a_status_that_says_nothing_of_money_gives_the_free_plan(status: str) -> None:
    assert stand(replace(ACTIVE, status=status)).plan == "free"


def test_one_that_is_to_end_gives_its_plan_until_then_and_no_longer_though_nobody_hears_of_the_end() -> None:
    ends_at = NOW + DAY
    cancelling = replace(ACTIVE, cancel_at=ends_at)
    before = stand(cancelling, now=ends_at - timedelta(seconds=1))
    assert (before.state, before.plan, before.changes_at) == ("cancelling", "pro", ends_at)
    after = stand(cancelling, now=ends_at)
    assert (after.state, after.plan, after.changes_at) == ("ended", "free", None)


@pytest.mark.parametrize("subscription", [ACTIVE, PAST_DUE, replace(ACTIVE, status="unpaid")], ids=lambda s: s.status)
def test_a_failed_payment_leaves_the_plan_for_the_grace_and_not_longer(subscription: Subscription) -> None:
    assert FAILED.failed_at is not None
    over = FAILED.failed_at + GRACE
    within = stand(subscription, invoices=(FAILED,), now=over - timedelta(seconds=1))
    assert (within.state, within.plan, within.grace_until, within.changes_at) == ("past_due", "pro", over, over)
    after = stand(subscription, invoices=(FAILED,), now=over)
    assert (after.state, after.plan, after.grace_until, after.changes_at) == ("unpaid", "free", None, None)


def test_a_payment_that_was_made_after_all_gives_the_plan_back() -> None:
    paid = replace(FAILED, ended=True)
    assert stand(ACTIVE, invoices=(paid,)).state == "active"
    # Its subscription may be told of later.
    assert stand(PAST_DUE, invoices=(paid,)).plan == "pro"


def test_a_missing_payment_that_no_invoice_tells_of_yet_counts_from_the_beginning_of_the_period() -> None:
    before = replace(PAID, id="in_0", created_at=PERIOD - 30 * DAY)
    for invoices in ((), (before,)):
        found = stand(PAST_DUE, invoices=invoices, now=PERIOD + DAY)
        assert (found.state, found.grace_until) == ("past_due", PERIOD + GRACE)


def test_only_the_newest_invoice_of_a_subscription_says_whether_a_payment_is_missing() -> None:
    older = replace(FAILED, id="in_0", created_at=PERIOD - 30 * DAY, failed_at=PERIOD - 30 * DAY)
    assert stand(ACTIVE, invoices=(older, PAID)).state == "active"
    assert stand(ACTIVE, invoices=(PAID, replace(FAILED, subscription="sub_2"))).state == "active"


def test_a_period_that_follows_an_unpaid_one_has_no_grace_of_its_own() -> None:
    before = replace(FAILED, id="in_0", created_at=PERIOD - 30 * DAY, failed_at=PERIOD - 29 * DAY)
    found = stand(PAST_DUE, invoices=(FAILED, before), now=PERIOD + DAY)
    assert (found.state, found.plan, found.grace_until) == ("unpaid", "free", None)
    paid_between = replace(before, id="in_0b", created_at=PERIOD - DAY, ended=True)
    found = stand(PAST_DUE, invoices=(before, FAILED, paid_between), now=PERIOD + DAY)
    assert FAILED.failed_at is not None
    assert (found.state, found.grace_until) == ("past_due", FAILED.failed_at + GRACE)


def test_of_several_subscriptions_the_best_plan_counts_in_any_order() -> None:
    team = replace(ACTIVE, id="sub_2", plan="team", started_at=BEGAN - DAY)
    foreign = replace(ACTIVE, id="sub_3", plan=None)
    unsold = replace(ACTIVE, id="sub_4", plan="withdrawn")
    for order in ((ACTIVE, team, foreign, unsold), (unsold, foreign, team, ACTIVE)):
        found = stand(*order)
        assert (found.plan, found.subscription, found.metered_from) == ("team", team, BEGAN - DAY)
    assert stand(replace(team, ended=True), ACTIVE).plan == "pro"
    assert stand(foreign, unsold).plan == "free"


def test_a_subscription_to_something_else_says_nothing_of_the_plan() -> None:
    assert stand(replace(ACTIVE, plan=None, ours=False)).plan is None
