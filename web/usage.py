"""/v1/usage: what an account used, and what that cost."""

from datetime import UTC, datetime

from flask import Blueprint, Response, jsonify

from common import ids, usage
from common.errors import InvalidRequest
from common.usage import Receipts
from web import account_render, account_schemas, queries, render
from web.auth import caller, requires
from web.documented import documented

blueprint = Blueprint("usage", __name__, url_prefix="/usage")

# With any of these the answer is a page of buckets.
OF_BUCKETS = frozenset({"start_time", "end_time", "group_by", "limit", "page"})


@blueprint.get("")
@requires("usage")
@documented(
    "Get what was used",
    {200: account_schemas.Usage | account_schemas.UsagePage},
    query=queries.UsageRange,
)
def get() -> Response:
    """Totals; or buckets, where a range, a grouping or a page is asked for."""
    query = queries.read(queries.UsageRange)
    if not OF_BUCKETS & query.model_fields_set:
        return jsonify(account_render.usage_totals(caller(), usage.totals(caller(), _receipts(query))))
    receipts = _receipts(query, *_range(query))
    page = usage.by_group(caller(), receipts, query.group_by, query.limit, query.page)
    return jsonify(account_render.usage_page(receipts, query.group_by, page))


def _range(query: queries.UsageRange) -> tuple[datetime, datetime | None]:
    """From the beginning of the billing period on, unless the query says otherwise. Raises InvalidRequest."""
    start = _moment(query.start_time) if query.start_time is not None else caller().period_start
    end = _moment(query.end_time) if query.end_time is not None else None
    if end is not None and end <= start:
        raise InvalidRequest(
            f"end_time must be after start_time, which is {render.unix(start)}: the range would be empty.",
            param="end_time",
        )
    return start, end


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _receipts(query: queries.UsageRange, start: datetime | None = None, end: datetime | None = None) -> Receipts:
    return Receipts(
        start,
        end,
        query.model,
        ids.parse_wanted("key_", query.api_key_id, "api_key_id"),
        ids.parse_wanted("batch_", query.batch_id, "batch_id"),
    )
