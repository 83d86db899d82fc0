"""How things look in the API's JSON."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from pydantic_core import from_json

from common import ids, json_text
from common.batches import Batch
from common.jobs import Job
from common.money import format_nano_dollars
from common.outputs import output_text

T = TypeVar("T")


def unix(moment: datetime | None) -> int | None:
    """Whole seconds since 1970."""
    return int(moment.timestamp()) if moment is not None else None


def precise(moment: datetime | None) -> float | None:
    """Seconds since 1970 to the millisecond."""
    return round(moment.timestamp(), 3) if moment is not None else None


def money(amount: int | None) -> dict[str, Any] | None:
    """Nano-dollars as an exact decimal string, and as they are."""
    if amount is None:
        return None
    return {"usd": format_nano_dollars(amount), "nano_usd": amount}


def job(found: Job) -> dict[str, Any]:
    answer = provider_answer(found.response_body)
    ended = found.outcome is not None
    return {
        "id": found.shown_id,
        "object": "job",
        "status": found.status,
        "batch_id": None if found.single else ids.show("batch_", found.batch_id),
        "endpoint": found.endpoint,
        "model": found.model,
        "metadata": found.metadata,
        "output_text": output_text(found.endpoint, found.response_body),
        "response": {"status_code": found.status_code, "request_id": found.request_id, "body": answer}
        if found.status_code is not None
        else None,
        "error": {"code": found.error_code, "message": found.error_message} if found.error_code else None,
        "usage": {
            "prompt_tokens": found.prompt_tokens,
            "cached_tokens": found.cached_tokens,
            "completion_tokens": found.completion_tokens,
            "total_tokens": (found.prompt_tokens or 0) + (found.completion_tokens or 0),
        }
        if found.prompt_tokens is not None
        else None,
        "cost": money(found.cost),
        "attempts": found.attempts or 0,
        "created_at": precise(found.created_at),
        "queued_at": precise(found.created_at),
        "started_at": precise(found.started_at if ended else found.batch_started_at if found.single else None),
        "finished_at": precise(found.finished_at),
    }


def provider_answer(body: bytes | None) -> Any:
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


def batch(found: Batch) -> dict[str, Any]:
    ended = unix(found.ended_at)
    in_flight = found.total - found.ended_rows
    return {
        "id": found.shown_id,
        "object": "batch",
        "kind": found.kind,
        "endpoint": found.endpoint,
        "model": found.model,
        "input_file_id": ids.show("file-", found.input_file_id) if found.input_file_id else None,
        "completion_window": "24h",
        "status": found.state,
        "errors": {"object": "list", "data": found.errors, "total": found.error_count} if found.errors else None,
        "request_counts": {"total": found.total, "completed": found.succeeded, "failed": found.failed},
        "counts": {
            "total": found.total,
            "pending": in_flight,
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
        "rows_per_second": round(found.rows_per_second, 2),
        "estimated_completion_at": unix(found.estimated_completion_at),
        "metadata": found.metadata,
        "created_at": unix(found.created_at),
        "in_progress_at": unix(found.in_progress_at),
        "expires_at": unix(found.expires_at),
        "cancelling_at": unix(found.cancelling_at),
        "completed_at": ended if found.state == "completed" else None,
        "failed_at": ended if found.state == "failed" else None,
        "cancelled_at": ended if found.state == "cancelled" else None,
        "expired_at": ended if found.state == "expired" else None,
    }


def page(found: Sequence[T], limit: int, render: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
    """A list's page. One more than `limit` was asked for, which tells whether there is another page."""
    data = [render(item) for item in found[:limit]]
    return {
        "object": "list",
        "data": data,
        "has_more": len(found) > limit and limit > 0,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }
