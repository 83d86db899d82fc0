"""/account/usage: what the account used in this billing period, by day and by model, and its limits."""

from collections.abc import Sequence
from datetime import date, timedelta

from flask import Blueprint, render_template

from common import limits, usage
from common.usage import Bucket, Receipts
from web.pages import chart, visitor
from web.pages.visitor import signed_in

blueprint = Blueprint("usage", __name__, url_prefix="/account/usage")

MAX_DAYS = 62
MAX_MODELS = 100


@blueprint.get("")
@signed_in("usage")
def page() -> str:
    caller = visitor.caller()
    receipts = Receipts(start=caller.period_start)
    days = usage.by_group(caller, receipts, ["day"], MAX_DAYS, None)
    models = usage.by_group(caller, receipts, ["model"], MAX_MODELS, None)
    return render_template(
        "usage.html",
        account=caller,
        taken=limits.taken(caller),
        total=days.total,
        days=[(date.fromisoformat(str(bucket.alike["day"])), bucket.sums) for bucket in days.buckets],
        models=[(bucket.alike["model"], bucket.sums) for bucket in models.buckets],
        more_models=models.next_page is not None,
        chart=chart.of(_by_day(days.buckets, caller.period_start.date(), caller.period_end.date())),
    )


def _by_day(buckets: Sequence[Bucket], first: date, last: date) -> list[int]:
    """The tokens of every day, also of those without any and of those to come."""
    used = {bucket.alike["day"]: bucket.sums.prompt_tokens + bucket.sums.completion_tokens for bucket in buckets}
    return [used.get((first + timedelta(days=number)).isoformat(), 0) for number in range((last - first).days + 1)]
