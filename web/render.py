"""How things look in the API's JSON."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar, overload

from pydantic_core import from_json

from common import ids, json_text, shared_thread
from common.batches import Batch
from common.estimates import BYTES_PER_TOKEN, Estimate
from common.files import File
from common.jobs import Job
from common.models import Model
from common.money import format_nano_dollars
from common.outputs import output_text
from common.plans import Plan
from common.queue_position import QueuePosition
from common.results import Row, row_id
from web import schemas

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
        "expires_at": precise(found.expires_at),
        "webhook_url": found.webhook_url,
        "webhook_events": found.webhook_events,
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
    usage = _usage(found)
    if usage is None:
        return None
    return {
        "model": found.model,
        **usage,
        "total_tokens": usage["prompt_tokens"] + usage["completion_tokens"],
        "unit_prices": unit_prices(found.prompt_price, found.cached_price, found.completion_price),
        "cost": money(found.cost),
        "recorded_at": precise(found.recorded_at),
    }


@lru_cache(maxsize=1024)
def unit_prices(prompt: int | None, cached: int | None, completion: int | None) -> schemas.UnitPrices | None:
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


def model(found: Model) -> schemas.Model:
    return {"id": found.id, "object": "model", "created": found.created, "owned_by": found.owned_by}


# A batch whose time is over delivers what finished: clients of the Batch API know that as finalizing.
SHOWN_STATES = {"expiring": "finalizing"}


def batch(found: Batch, position: QueuePosition | None) -> schemas.Batch:
    shown: schemas.QueuePosition | None = None
    if position is not None:
        shown = {"accounts": position.accounts, "rows": position.rows}
    return {**listed_batch(found), "queue_position": shown}


def listed_batch(found: Batch) -> schemas.ListedBatch:
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
        "pause_requested_at": unix(found.pause_requested_at),
        "webhook_url": found.webhook_url,
        "webhook_events": found.webhook_events,
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
    data = []
    for item in found[:limit]:
        # Each may show an answer of some megabytes.
        shared_thread.let_others_go_on()
        data.append(render(item))
    return {
        "object": "list",
        "data": data,
        "has_more": len(found) > limit and limit > 0,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }
