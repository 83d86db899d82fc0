"""Usage: what an account's receipts sum up to, all of them, or by day, model, API key or batch.

The sums are made from the receipts themselves each time: nothing is kept that could differ from them.
"""

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

from sqlalchemy import TextClause, text

from common import json_text
from common.database import as_account
from common.errors import InvalidRequest
from common.keys import Caller

Group = Literal["day", "model", "api_key_id", "batch_id"]
GROUPS: tuple[Group, ...] = get_args(Group)


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over receipts. `unpriced` of the `requests` were for models without a known price: `cost`, in nano-dollars,
    is that of the others. `cached_tokens` are part of `prompt_tokens`."""

    requests: int
    unpriced: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost: int


@dataclass(frozen=True, slots=True)
class Receipts:
    """Which receipts are meant: those written from `start` to before `end`, of one model, key or batch where wanted."""

    start: datetime | None = None
    end: datetime | None = None
    model: str | None = None
    api_key_id: UUID | None = None
    batch_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the billing period of now, over the last 24 hours, which began at `day_ago`, and over everything."""

    day_ago: datetime
    billing_period: Sums
    last_24_hours: Sums
    all_time: Sums


@dataclass(frozen=True, slots=True)
class Bucket:
    """The sums of the receipts that are alike in what they are grouped by. A day is "2026-01-31", in UTC; the single
    jobs have one bucket together, whose batch is None."""

    alike: dict[Group, str | UUID | None]
    sums: Sums


@dataclass(frozen=True, slots=True)
class Page:
    """Buckets in the order of what they are grouped by, and the sums over those of all pages. `next_page` is where the
    next page begins, None after the last."""

    total: Sums
    buckets: Sequence[Bucket]
    next_page: str | None


def totals(caller: Caller, receipts: Receipts) -> Totals:
    """What the account used; `receipts` has no times here."""
    period = {"period_start": caller.period_start, "period_end": caller.period_end}
    with as_account(caller.account_id) as connection:
        rows = connection.execute(_totals(_conditions(receipts)), _parameters(caller, receipts) | period).all()
    sums = {row.span: Sums(*row[2:]) for row in rows}
    return Totals(rows[0].day_ago, sums["billing_period"], sums["last_24_hours"], sums["all_time"])


def by_group(caller: Caller, receipts: Receipts, groups: Sequence[Group], limit: int, page: str | None) -> Page:
    """Up to `limit` buckets from `page` on; without groups, one with everything. Raises InvalidRequest for a page that
    no answer to this grouping named."""
    after = _read_cursor(page, groups) if page is not None else ()
    parameters = _parameters(caller, receipts) | {"limit": limit + 1}
    parameters |= {f"after_{number}": value for number, value in enumerate(after)}
    with as_account(caller.account_id) as connection:
        rows = connection.execute(_grouped(tuple(groups), _conditions(receipts), bool(after)), parameters).all()
    (total,) = (Sums(*row[1 + len(groups) :]) for row in rows if not row.is_bucket)
    buckets = [row[1:] for row in rows if row.is_bucket]
    next_page = _cursor(groups, buckets[limit - 1][: len(groups)]) if len(buckets) > limit else None
    return Page(total, [_bucket(groups, bucket) for bucket in buckets[:limit]], next_page)


def _bucket(groups: Sequence[Group], row: Sequence[Any]) -> Bucket:
    keys = zip(groups, row[: len(groups)], strict=True)
    alike = {group: _id(key) if group in _IDS else key for group, key in keys}
    return Bucket(alike, Sums(*row[len(groups) :]))


def _id(shown: str) -> UUID | None:
    return UUID(shown) if shown else None


def _cursor(groups: Sequence[Group], keys: Sequence[str]) -> str:
    """Names the bucket that a page ends with, and how it was grouped."""
    return base64.urlsafe_b64encode(json_text.dumps([*groups, *keys])).decode().rstrip("=")


def _read_cursor(page: str, groups: Sequence[Group]) -> list[str]:
    try:
        named = json_text.loads(base64.b64decode(page + "=" * (-len(page) % 4), altchars=b"-_", validate=True))
    except ValueError:
        named = None
    if (
        isinstance(named, list)
        and len(named) == 2 * len(groups) > 0
        and named[: len(groups)] == list(groups)
        and all(isinstance(key, str) and json_text.is_storable(key) for key in named)
    ):
        return named[len(groups) :]
    raise InvalidRequest("page is the next_page of an answer to the same group_by.", param="page")


def _parameters(caller: Caller, receipts: Receipts) -> dict[str, Any]:
    return {"account_id": caller.account_id} | asdict(receipts)


def _conditions(receipts: Receipts) -> str:
    """Only what is asked for stands in the query, so that each has the index that serves it best."""
    return " AND ".join(
        [_OF_ACCOUNT] + [condition for field, condition in _CONDITIONS.items() if getattr(receipts, field) is not None]
    )


_OF_ACCOUNT = "u.account_id = :account_id"
_CONDITIONS = {
    "start": "u.created_at >= :start",
    "end": "u.created_at < :end",
    "model": "u.model = :model",
    "api_key_id": "u.api_key_id = :api_key_id",
    "batch_id": "u.batch_id = :batch_id",
}

_SUMS = """
    count(*) AS requests, count(*) - count(u.cost) AS unpriced,
    coalesce(sum(u.prompt_tokens), 0)::bigint AS prompt_tokens,
    coalesce(sum(u.cached_tokens), 0)::bigint AS cached_tokens,
    coalesce(sum(u.completion_tokens), 0)::bigint AS completion_tokens, coalesce(sum(u.cost), 0)::bigint AS cost
"""

_SUMMED = ("requests", "unpriced", "prompt_tokens", "cached_tokens", "completion_tokens", "cost")


def _totals(conditions: str) -> TextClause:
    # A whole second, as it is shown: who asks for the range from there on gets the same sums.
    day_ago = "date_trunc('second', now() - interval '24 hours')"
    spans = {
        "billing_period": " AND u.created_at >= :period_start AND u.created_at < :period_end",
        "last_24_hours": f" AND u.created_at >= {day_ago}",
        "all_time": "",
    }
    return text(
        " UNION ALL ".join(
            f"SELECT '{span}' AS span, {day_ago} AS day_ago, {_SUMS} FROM usage_records u WHERE {conditions}{within}"
            for span, within in spans.items()
        )
    )


_KEYS: dict[Group, str] = {
    "day": "(u.created_at AT TIME ZONE 'UTC')::date",
    "model": "u.model",
    "api_key_id": "u.api_key_id",
    "batch_id": "b.id",
}
# Of the single jobs' batches, which may be millions, none is read.
_WITH_BATCH = "LEFT JOIN batches b ON b.id = u.batch_id AND b.kind <> 'single' AND b.account_id = :account_id"

# As text, so that a page's end can be named. Single jobs have no batch to name: they come first.
_SHOWN_KEYS: dict[Group, str] = {
    "day": "to_char({}, 'YYYY-MM-DD')",
    "model": "{}",
    "api_key_id": "{}::text",
    "batch_id": "coalesce({}::text, '')",
}
_IDS: frozenset[Group] = frozenset({"api_key_id", "batch_id"})


def _grouped(groups: tuple[Group, ...], conditions: str, after: bool) -> TextClause:
    """First one row with the sums over all buckets, which is no bucket; then buckets by their keys, as text."""
    names = [f"key_{number}" for number in range(len(groups))]
    keys = "".join(f"{_KEYS[group]} AS {name}, " for group, name in zip(groups, names, strict=True))
    shown = "".join(
        f'{_SHOWN_KEYS[group].format(name)} COLLATE "C" AS {name}, ' for group, name in zip(groups, names, strict=True)
    )
    places = ", ".join(f":after_{number}" for number in range(len(groups)))
    key = ", ".join(names)
    total = ", ".join(f"coalesce(sum({name}), 0)::bigint" for name in _SUMMED)
    return text(f"""
        WITH buckets AS (
            SELECT {keys} {_SUMS} FROM usage_records u {_WITH_BATCH if "batch_id" in groups else ""}
            WHERE {conditions} {f"GROUP BY {key}" if groups else ""}
        ), shown AS (
            SELECT true AS is_bucket, {shown} {", ".join(_SUMMED)} FROM buckets
        )
        (SELECT false AS is_bucket, {"NULL, " * len(groups)} {total} FROM buckets)
        UNION ALL
        (SELECT * FROM shown {f"WHERE ({key}) > ({places})" if after else ""}
         {f"ORDER BY {key}" if groups else ""} LIMIT :limit)
    """)
