"""What its subscriptions give an account: a pure function of what Stripe told of them, and of the time."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Literal

from common.plans import FREE

# none: no subscription has ever begun            past_due: a payment failed, and the grace is not over
# active: it gives its plan                       unpaid: the grace is over, or Stripe waits for a means of payment
# cancelling: it gives its plan until it ends     ended: there was one
State = Literal["none", "active", "cancelling", "past_due", "unpaid", "ended"]
GIVING: frozenset[State] = frozenset({"active", "cancelling", "past_due"})

# Stripe's words. It has taken no money yet of the first, and may yet get some of the second.
NOT_BEGUN = frozenset({"incomplete", "incomplete_expired"})
WAITED_FOR = frozenset({"past_due", "unpaid"})
PAID = frozenset({"active", "trialing"})


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription as Stripe last told of it. `amount` is in cents; `plan` is None where its price is not ours, and
    `cancel_at` where it is not to end. `ours` is whether it was ever one to a plan: an operator may bill a customer for
    other things too."""

    id: str
    ours: bool
    plan: str | None
    status: str
    ended: bool
    started_at: datetime
    period_start: datetime | None
    period_end: datetime | None
    cancel_at: datetime | None
    amount: int | None
    currency: str | None


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice of a subscription. `failed_at` is when its payment first failed; `ended` that it is paid or void."""

    id: str
    subscription: str | None
    ended: bool
    created_at: datetime
    failed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Standing:
    """What an account has now. `plan` is None where no subscription ever began: the account keeps what it was given.
    `subscription` is the one that gives the plan or, where none does, the last one. `changes_at` is when time alone
    makes it another, unless Stripe tells something before."""

    state: State
    plan: str | None
    subscription: Subscription | None
    grace_until: datetime | None
    changes_at: datetime | None
    metered_from: datetime | None


@dataclass(frozen=True, slots=True)
class _Look:
    """One subscription at one moment."""

    subscription: Subscription
    state: State
    grace_until: datetime | None
    changes_at: datetime | None


def standing(
    subscriptions: Iterable[Subscription],
    invoices: Sequence[Invoice],
    prices: Mapping[str, int],
    now: datetime,
    grace: timedelta,
) -> Standing:
    """The best plan that a subscription gives, by `prices`, which has every plan that there is; the free one where they
    have all ended. It does not matter in which order they are given."""
    begun = [one for one in subscriptions if one.ours and one.status not in NOT_BEGUN]
    if not begun:
        return Standing("none", None, None, None, None, None)
    looks = [
        _look(one, [invoice for invoice in invoices if invoice.subscription == one.id], now, grace) for one in begun
    ]
    giving = [look for look in looks if look.state in GIVING and look.subscription.plan in prices]
    if giving:
        shown = max(giving, key=lambda look: (prices[look.subscription.plan or FREE], _age(look.subscription)))
    else:
        shown = max(looks, key=lambda look: (not look.subscription.ended, _age(look.subscription)))
    return Standing(
        state=shown.state,
        plan=shown.subscription.plan if giving else FREE,
        subscription=shown.subscription,
        grace_until=shown.grace_until if giving else None,
        changes_at=min((look.changes_at for look in looks if look.changes_at is not None), default=None),
        metered_from=min(one.started_at for one in begun),
    )


def _age(subscription: Subscription) -> tuple[datetime, str]:
    return subscription.started_at, subscription.id


def _look(one: Subscription, invoices: Sequence[Invoice], now: datetime, grace: timedelta) -> _Look:
    """`invoices` are its own."""
    ends_at = one.cancel_at
    if one.ended or (ends_at is not None and ends_at <= now):
        # Stripe tells when it ends; this is for the case that nobody hears it.
        return _Look(one, "ended", None, None)
    if one.status not in PAID | WAITED_FOR:
        return _Look(one, "unpaid", None, None)
    failed_at = _failed_at(one, invoices)
    if failed_at is not None and failed_at + grace <= now:
        return _Look(one, "unpaid", None, None)
    if failed_at is not None:
        until = failed_at + grace
        return _Look(one, "past_due", until, min(until, ends_at) if ends_at is not None else until)
    return _Look(one, "active" if ends_at is None else "cancelling", None, ends_at)


def _failed_at(one: Subscription, invoices: Sequence[Invoice]) -> datetime | None:
    """Since when a payment has been missing; None where none is. The newest invoice says whether, and those before it
    that are not paid either since when: a period that follows an unpaid one has no grace of its own. Where Stripe has
    told that a payment is missing, but not yet of which invoice, it is the beginning of the period."""
    newest_first = sorted(invoices, key=lambda invoice: (invoice.created_at, invoice.id), reverse=True)
    missing = [one.failed_at for one in takewhile(lambda one: not one.ended, newest_first) if one.failed_at is not None]
    newest = next(iter(newest_first), None)
    if newest is not None and not newest.ended and newest.failed_at is not None:
        return min(missing)
    told_of_it = newest is not None and one.period_start is not None and newest.created_at >= one.period_start
    return None if one.status in PAID or told_of_it else one.period_start or one.started_at
