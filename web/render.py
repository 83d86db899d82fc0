"""How things look in the API's JSON."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar, cast, overload
from uuid import UUID

from pydantic_core import from_json

from common import ids, json_text
from common.batches import Batch
from common.estimates import BYTES_PER_TOKEN, Estimate
from common.files import File
from common.jobs import Job
from common.keys import Caller, Key
from common.limits import Taken
from common.models import Model
from common.money import format_nano_dollars
from common.outputs import output_text
from common.plans import Plan
from common.results import Row, row_id
from common.usage import Bucket, Group, Page, Receipts, Sums, Totals
from web import account_schemas, schemas
from web.windows import DAY, MINUTE, Left

T = TypeVar("T")
ShownT = TypeVar("ShownT", bound=Mapping[str, Any])


@overload
def unix(moment: datetime) -> int: ...
@overload
def unix(moment: datetime | None) -> int | None: ...
def unix(moment: datetime | None) -> int | None:
    """Whole seconds since 1970."""
    return int(moment.timestamp()) if moment is not None else None


@overload
def precise(moment: datetime) -> float: ...
@overload
def precise(moment: datetime | None) -> float | None: ...
def precise(moment: datetime | None) -> float | None:
    """Seconds since 1970 to the millisecond."""
    return round(moment.timestamp(), 3) if moment is not None else None


@overload
def money(amount: int) -> schemas.Money: ...
@overload
def money(amount: int | None) -> schemas.Money | None: ...
def money(amount: int | None) -> schemas.Money | None:
    """Nano-dollars as an exact decimal string, and as they are."""
    if amount is None:
        return None
    return {"usd": format_nano_dollars(amount), "nano_usd": amount}


def job(found: Job) -> schemas.Job:
    ended = found.outcome is not None
    used = _usage(found)
    return {
        "id": found.shown_id,
        "object": "job",
        "status": found.status,
        "batch_id": None if found.single else ids.show("batch_", found.batch_id),
        "endpoint": found.endpoint,
        "model": found.model,
        "metadata": found.metadata,
        "output_text": output_text(found.endpoint, found.response_body),
        "response": _response(found, found.response_body),
        "error": _error(found),
        "usage": {**used, "total_tokens": used["prompt_tokens"] + used["completion_tokens"]} if used else None,
        "cost": money(found.cost),
        "receipt": _receipt(found),
        "attempts": found.attempts or 0,
        "created_at": precise(found.created_at),
        "queued_at": precise(found.created_at),
        "started_at": precise(found.started_at if ended else found.batch_started_at if found.single else None),
        "finished_at": precise(found.finished_at),
    }


def _response(found: Job | Row, body: bytes | None) -> schemas.ProviderAnswer | None:
    if found.status_code is None:
        return None
    return {"status_code": found.status_code, "request_id": found.request_id, "body": _answer(body)}


def _answer(body: bytes | None) -> Any:
    """What a provider sent, as JSON where it is JSON and as text where not."""
    if body is None:
        return None
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError:
        pass
    try:
        # Rarer JSON, such as half a surrogate pair, which only the slower parser takes.
        return json_text.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")


def _error(found: Job | Row) -> schemas.JobError | None:
    return {"code": found.error_code, "message": found.error_message} if found.error_code else None


def _usage(found: Job | Row) -> schemas.RowUsage | None:
    if found.prompt_tokens is None or found.cached_tokens is None or found.completion_tokens is None:
        return None
    return {
        "prompt_tokens": found.prompt_tokens,
        "cached_tokens": found.cached_tokens,
        "completion_tokens": found.completion_tokens,
    }


def _receipt(found: Job | Row) -> schemas.Receipt | None:
    """What was counted and charged for it, None where nothing was; prices are dollars for a million tokens."""
    if found.prompt_tokens is None or found.cached_tokens is None or found.completion_tokens is None:
        return None
    return {
        "model": found.model,
        "prompt_tokens": found.prompt_tokens,
        "cached_tokens": found.cached_tokens,
        "completion_tokens": found.completion_tokens,
        "total_tokens": found.prompt_tokens + found.completion_tokens,
        "unit_prices": _unit_prices(found.prompt_price, found.cached_price, found.completion_price),
        "cost": money(found.cost),
        "recorded_at": precise(found.recorded_at),
    }


@lru_cache(maxsize=1024)
def _unit_prices(prompt: int | None, cached: int | None, completion: int | None) -> schemas.UnitPrices | None:
    """Remembered, because the rows of a batch have few."""
    if prompt is None or cached is None or completion is None:
        return None
    return {
        "prompt": format_nano_dollars(prompt),
        "cached": format_nano_dollars(cached),
        "completion": format_nano_dollars(completion),
    }


def row(endpoint: str, found: Row) -> schemas.RowOutcome:
    """A row of a batch with its outcome."""
    return {
        "custom_id": found.custom_id,
        "status": found.outcome or "pending",
        "output": output_text(endpoint, found.body) if found.outcome == "succeeded" else None,
        "response": _response(found, found.body),
        "error": _error(found),
        "usage": _usage(found),
        "cost": format_nano_dollars(found.cost) if found.cost is not None else None,
        "receipt": _receipt(found),
    }


def listed_row(batch: Batch, found: Row) -> schemas.Row:
    return {"id": row_id(batch.id, found.seq), "object": "batch.result", **row(batch.endpoint, found)}


def file(found: File) -> schemas.File:
    return {
        "id": found.shown_id,
        "object": "file",
        "bytes": found.bytes,
        "created_at": unix(found.created_at),
        "expires_at": unix(found.expires_at),
        "filename": found.filename,
        "purpose": found.purpose,
        "status": "processed",
    }


def api_key(found: Key) -> account_schemas.ApiKey:
    return {
        "id": found.shown_id,
        "object": "api_key",
        "name": found.name,
        "prefix": found.prefix,
        "scopes": list(found.scopes),
        "status": found.status,
        "created_at": unix(found.created_at),
        "expires_at": unix(found.expires_at),
        "revoked_at": unix(found.revoked_at),
        "last_used_at": unix(found.last_used_at),
        "replaces": ids.show("key_", found.replaces) if found.replaces is not None else None,
    }


def model(found: Model) -> schemas.Model:
    return {"id": found.id, "object": "model", "created": found.created, "owned_by": found.owned_by}


def usage_totals(caller: Caller, found: Totals) -> account_schemas.Usage:
    return {
        "object": "usage",
        "billing_period": _span(caller.period_start, caller.period_end, found.billing_period),
        "last_24_hours": _span(found.day_ago, None, found.last_24_hours),
        "all_time": _span(None, None, found.all_time),
    }


def _span(start: datetime | None, end: datetime | None, sums: Sums) -> account_schemas.UsageSpan:
    return {"start_time": unix(start), "end_time": unix(end), **_sums(sums)}


def usage_page(receipts: Receipts, groups: Sequence[Group], found: Page) -> account_schemas.UsagePage:
    return {
        "object": "list",
        "start_time": unix(receipts.start),
        "end_time": unix(receipts.end),
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
        "cost": money(found.cost),
    }


def limits(caller: Caller, found: Taken, requests: Sequence[Left]) -> account_schemas.Limits:
    plan, resets_at = caller.limits, unix(caller.period_end)
    return {
        "object": "limits",
        "plan": caller.plan,
        "billing_period": {"start_time": unix(caller.period_start), "end_time": resets_at},
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
            "soft_cap": money(found.soft_cap),
            "soft_cap_reached_at": unix(found.soft_cap_reached_at),
            "hard_cap": money(caller.hard_cap),
            "used": money(found.cost_used),
            "reserved": money(found.cost_reserved),
            "remaining": money(_left(caller.hard_cap, found.cost_used + found.cost_reserved))
            if caller.hard_cap is not None
            else None,
            "resets_at": resets_at,
        },
        # All of the plan's, with the account's own in their place: also those that nothing is taken of.
        "limits": plan.model_dump(mode="json", exclude={"name", "weight"}),
    }


def _request_limits(requests: Sequence[Left]) -> account_schemas.RequestLimits:
    """Those of the key and of its account."""
    shown = {(left.window.whose, left.window.seconds): left for left in requests}
    return {"key": _windows(shown, "key"), "account": _windows(shown, "account")}


def _windows(shown: Mapping[tuple[str, int], Left], whose: str) -> account_schemas.RequestWindows:
    return {"per_minute": _window(shown[whose, MINUTE]), "per_day": _window(shown[whose, DAY])}


def _window(left: Left) -> account_schemas.RequestWindow:
    return {"limit": left.window.limit, "remaining": left.remaining, "more_in_seconds": math.ceil(left.seconds)}


def _left(limit: int, taken: int) -> int:
    """What was held by a bound may turn out to be a little more."""
    return max(0, limit - taken)


# A batch whose time is over delivers what finished: clients of the Batch API know that as finalizing.
SHOWN_STATES = {"expiring": "finalizing"}


def batch(found: Batch) -> schemas.Batch:
    ended = unix(found.ended_at)
    # Clients take a missing file id for "nothing there": no output once the batch has ended without any.
    has_output = found.succeeded > 0 or found.ended_at is None
    return {
        "id": found.shown_id,
        "object": "batch",
        "kind": found.kind,
        "endpoint": found.endpoint,
        "model": found.model,
        "input_file_id": ids.show("file-", found.input_file_id) if found.input_file_id else None,
        "completion_window": found.completion_window,
        "on_error": found.on_error,
        "status": SHOWN_STATES.get(found.state, found.state),
        "output_file_id": ids.show("file-", found.output_file_id) if found.output_file_id and has_output else None,
        "error_file_id": ids.show("file-", found.error_file_id) if found.error_file_id and found.error_bytes else None,
        "errors": line_errors(found.errors, found.error_count, found.error_counts) if found.errors else None,
        "request_counts": {
            "total": found.total,
            "completed": found.succeeded,
            "failed": found.failed + found.cancelled + found.expired,
        },
        "counts": {
            "total": found.total,
            "pending": found.total - found.ended_rows,
            "succeeded": found.succeeded,
            "failed": found.failed,
            "cancelled": found.cancelled,
            "expired": found.expired,
        },
        "usage": {
            "input_tokens": found.prompt_tokens,
            "input_tokens_details": {"cached_tokens": found.cached_tokens},
            "output_tokens": found.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": found.prompt_tokens + found.completion_tokens,
        },
        "cost": money(found.cost),
        "max_cost": money(found.max_cost),
        "paused_reason": found.paused_reason,
        "rows_per_second": round(found.rows_per_second, 2),
        "estimated_completion_at": unix(found.estimated_completion_at),
        "metadata": found.metadata,
        "created_at": unix(found.created_at),
        "in_progress_at": unix(found.in_progress_at),
        "expires_at": unix(found.expires_at),
        "finalizing_at": unix(found.expiring_at) or (ended if found.state == "completed" else None),
        "cancelling_at": unix(found.cancelling_at),
        "completed_at": ended if found.state == "completed" else None,
        "failed_at": ended if found.state == "failed" else None,
        "cancelled_at": ended if found.state == "cancelled" else None,
        "expired_at": ended if found.state == "expired" else None,
    }


def line_errors(shown: Sequence[Any], total: int, counts: dict[str, int] | None) -> schemas.LineErrors:
    return {"object": "list", "data": list(shown), "total": total, "counts": counts or {}}


def estimate(found: Estimate, plan: Plan) -> schemas.BatchEstimate:
    refused = bool(found.error_counts)
    shares = found.models.values()
    priced = [share for share in shares if share.min_cost is not None]
    errors = [asdict(error) for error in found.errors]
    return {
        "object": "batch.estimate",
        "valid": not refused,
        "errors": line_errors(errors, sum(found.error_counts.values()), found.error_counts) if refused else None,
        "rows": found.rows,
        "failing_rows": found.failing_rows,
        "tokens": {
            "prompt": sum(share.prompt_tokens for share in shares),
            "max_output": sum(share.max_output_tokens for share in shares),
            "basis": f"prompts: {BYTES_PER_TOKEN} bytes a token; answers: the bound that a request sets, or else "
            f"{plan.default_output_tokens:,} tokens",
        },
        "cost": {
            "min": money(sum(share.min_cost or 0 for share in priced)),
            "max": money(sum(share.max_cost or 0 for share in priced)),
            "models_without_price": sorted(name for name, share in found.models.items() if share.min_cost is None),
        },
        "models": {name: share.rows for name, share in found.models.items()},
        "limits": {
            "plan": plan.name,
            "within": "batch_too_large" not in found.error_counts and found.refused_by is None,
            "refused_by": "batch_too_large" if "batch_too_large" in found.error_counts else found.refused_by,
            "reserved_tokens": found.reserved_tokens,
            "reserved_cost": money(found.reserved_cost),
            "max_rows": plan.max_rows,
            "max_file_bytes": plan.max_file_bytes,
        },
        "duration": {
            "seconds": round(found.seconds) if found.seconds is not None else None,
            "rows_ahead": found.rows_ahead,
            "rows_per_second": round(found.rows_per_second, 2) if found.rows_per_second else None,
            "basis": "your latest completed batches" if found.rows_per_second else "no completed batch to go by yet",
        },
    }


def page(found: Sequence[T], limit: int, render: Callable[[T], ShownT]) -> schemas.Page[ShownT]:
    """A list's page. One more than `limit` was asked for, which tells whether there is another page."""
    data = [render(item) for item in found[:limit]]
    return {
        "object": "list",
        "data": data,
        "has_more": len(found) > limit and limit > 0,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }
