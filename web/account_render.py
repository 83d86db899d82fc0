"""How an account's own things look in the API's JSON: its keys, its usage and its limits."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import cast
from uuid import UUID

from common import ids
from common.keys import Caller, Key
from common.limits import Taken
from common.plans import OVERRIDABLE
from common.usage import Bucket, Group, Page, Receipts, Sums, Totals
from common.windows import DAY, MINUTE, Left
from web import account_schemas, render


def api_key(found: Key) -> account_schemas.ApiKey:
    return {
        "id": found.shown_id,
        "object": "api_key",
        "name": found.name,
        "prefix": found.prefix,
        "scopes": list(found.scopes),
        "status": found.status,
        "created_at": render.unix(found.created_at),
        "expires_at": render.unix(found.expires_at),
        "revoked_at": render.unix(found.revoked_at),
        "last_used_at": render.unix(found.last_used_at),
        "replaces": ids.show("key_", found.replaces) if found.replaces is not None else None,
    }


def usage_totals(caller: Caller, found: Totals) -> account_schemas.Usage:
    return {
        "object": "usage",
        "billing_period": _span(caller.period_start, caller.period_end, found.billing_period),
        "last_24_hours": _span(found.day_ago, None, found.last_24_hours),
        "all_time": _span(None, None, found.all_time),
    }


def _span(start: datetime | None, end: datetime | None, sums: Sums) -> account_schemas.UsageSpan:
    return {"start_time": render.unix(start), "end_time": render.unix(end), **_sums(sums)}


def usage_page(receipts: Receipts, groups: Sequence[Group], found: Page) -> account_schemas.UsagePage:
    return {
        "object": "list",
        "start_time": render.unix(receipts.start),
        "end_time": render.unix(receipts.end),
        "group_by": list(groups),
        "total": _sums(found.total),
        "data": [{"object": "usage.bucket", **_alike(bucket), **_sums(bucket.sums)} for bucket in found.buckets],
        "has_more": found.next_page is not None,
        "next_page": found.next_page,
    }


def _alike(bucket: Bucket) -> account_schemas.UsageAlike:
    shown = {
        group: ids.show(SHOWN_PREFIXES[group], key) if isinstance(key, UUID) else key
        for group, key in bucket.alike.items()
    }
    return cast(account_schemas.UsageAlike, shown)


SHOWN_PREFIXES: dict[Group, ids.Prefix] = {"api_key_id": "key_", "batch_id": "batch_"}


def _sums(found: Sums) -> account_schemas.UsageSums:
    return {
        "requests": found.requests,
        "requests_without_price": found.unpriced,
        "prompt_tokens": found.prompt_tokens,
        "cached_tokens": found.cached_tokens,
        "completion_tokens": found.completion_tokens,
        "total_tokens": found.prompt_tokens + found.completion_tokens,
        "cost": render.money(found.cost),
    }


def limits(caller: Caller, found: Taken, requests: Sequence[Left]) -> account_schemas.Limits:
    plan, resets_at = caller.limits, render.unix(caller.period_end)
    return {
        "object": "limits",
        "plan": caller.plan,
        "billing_period": {"start_time": render.unix(caller.period_start), "end_time": resets_at},
        "requests": _request_limits(requests),
        "tokens": {
            "limit": plan.tokens_per_month,
            "used": found.used,
            "reserved": found.reserved,
            "remaining": _left(plan.tokens_per_month, found.used + found.reserved),
            "resets_at": resets_at,
        },
        "queued_tokens": {
            "limit": plan.max_queued_tokens,
            "held": found.queued_tokens,
            "remaining": _left(plan.max_queued_tokens, found.queued_tokens),
        },
        "running_jobs": {
            "limit": plan.max_running_jobs,
            "now": found.running_jobs,
            "remaining": _left(plan.max_running_jobs, found.running_jobs),
        },
        "money": {
            "soft_cap": render.money(found.soft_cap),
            "soft_cap_reached_at": render.unix(found.soft_cap_reached_at),
            "hard_cap": render.money(caller.hard_cap),
            "used": render.money(found.cost_used),
            "reserved": render.money(found.cost_reserved),
            "remaining": render.money(_left(caller.hard_cap, found.cost_used + found.cost_reserved))
            if caller.hard_cap is not None
            else None,
            "resets_at": resets_at,
        },
        # All of the plan's, with the account's own in their place: also those that nothing is taken of.
        "limits": plan.model_dump(mode="json", include=set(OVERRIDABLE)),
    }


def _request_limits(requests: Sequence[Left]) -> account_schemas.RequestLimits:
    """Those of the key, or of the person who asks in its place, and of the account."""
    shown = {(left.window.whose, left.window.seconds): left for left in requests}
    own = "person" if ("person", MINUTE) in shown else "key"
    return {"key": _windows(shown, own), "account": _windows(shown, "account")}


def _windows(shown: Mapping[tuple[str, int], Left], whose: str) -> account_schemas.RequestWindows:
    return {"per_minute": _window(shown[whose, MINUTE]), "per_day": _window(shown[whose, DAY])}


def _window(left: Left) -> account_schemas.RequestWindow:
    return {"limit": left.window.limit, "remaining": left.remaining, "more_in_seconds": math.ceil(left.seconds)}


def _left(limit: int, taken: int) -> int:
    """What was held by a bound may turn out to be a little more."""
    return max(0, limit - taken)
