"""Meter events and their sums, as Stripe takes and gives them."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from common.errors import Conflict
from common.meter_outbox import Came
from common.stripe_api import StripeAway, StripeBusy, StripeRefused, calling
from common.stripe_prices import METER_CUSTOMER, METER_VALUE

# Of a refusal, as much as an operator needs.
PROBLEM_CHARACTERS = 500
METERS_PER_PAGE = 100


def send(
    *, event_name: str, customer: str, tokens: int, timestamp: int, identifier: str, idempotency_key: str
) -> tuple[Came, str | None]:
    """What came of one attempt to tell of tokens, and what went wrong."""
    try:
        with calling() as stripe:
            stripe.v1.billing.meter_events.create(
                {
                    "event_name": event_name,
                    "identifier": identifier,
                    "timestamp": timestamp,
                    "payload": {METER_CUSTOMER: customer, METER_VALUE: str(tokens)},
                },
                # Attempts are the outbox's, which remembers each.
                {"idempotency_key": idempotency_key, "max_network_retries": 0},
            )
    except StripeRefused as refused:
        if _is_repeated(refused, identifier):
            return "delivered", None
        return "refused", f"{refused.reason}: {refused.told}"[:PROBLEM_CHARACTERS]
    except StripeBusy as busy:
        return "not_taken", busy.message
    except StripeAway as away:
        return "unknown", away.message
    return "delivered", None


def _is_repeated(refused: StripeRefused, identifier: str) -> bool:
    """Stripe has an event of this identifier. Of that refusal only the sentence is sure to tell: not every version of
    the API has a code for it."""
    return refused.status == 400 and identifier in refused.told and "already exists" in refused.told


def tokens(event_name: str, customer: str, start: datetime, end: datetime) -> int:
    """What Stripe's meter comes to of a customer from `start` to before `end`, which are whole minutes. What it took
    lately may be missing. Raises StripeRefused, as of a customer that there is not, and StripeAway."""
    with calling() as stripe:
        found = stripe.v1.billing.meters.event_summaries.list(
            meter_id(event_name),
            {"customer": customer, "start_time": int(start.timestamp()), "end_time": int(end.timestamp())},
        )
        return sum(round(summary.aggregated_value) for summary in found.auto_paging_iter())


def tokens_by_hour(event_name: str, customer: str, start: datetime, end: datetime) -> dict[datetime, int]:
    """As `tokens`, by the hours of which Stripe has something; `start` and `end` are whole hours."""
    with calling() as stripe:
        found = stripe.v1.billing.meters.event_summaries.list(
            meter_id(event_name),
            {
                "customer": customer,
                "start_time": int(start.timestamp()),
                "end_time": int(end.timestamp()),
                "value_grouping_window": "hour",
                "limit": 100,
            },
        )
        return {
            datetime.fromtimestamp(summary.start_time, UTC): round(summary.aggregated_value)
            for summary in found.auto_paging_iter()
        }


def whole_minute(moment: datetime, *, up: bool = False) -> datetime:
    """The minute before or at, or after or at, a moment."""
    before = moment.replace(second=0, microsecond=0)
    return before + timedelta(minutes=1) if up and before != moment else before


@lru_cache(maxsize=8)
def meter_id(event_name: str) -> str:
    """Stripe's id of the meter that takes events of this name. Raises Conflict where there is none."""
    with calling() as stripe:
        for meter in stripe.v1.billing.meters.list({"status": "active", "limit": METERS_PER_PAGE}).auto_paging_iter():
            if meter.event_name == event_name:
                return meter.id
    raise Conflict(f"Stripe has no meter for {event_name}: run `flask --app wsgi billing setup`.", code="billing_off")
