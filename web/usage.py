"""/v1/usage: what an account used, and what that cost."""

from datetime import UTC, datetime
from uuid import UUID

from flask import Blueprint, Response, jsonify

from common import ids, usage
from common.errors import InvalidRequest
from common.usage import Receipts
from web import forms, render
from web.auth import caller, requires

blueprint = Blueprint("usage", __name__, url_prefix="/usage")

# With any of these the answer is a page of buckets.
OF_BUCKETS = frozenset({"start_time", "end_time", "group_by", "limit", "page"})


@blueprint.get("")
@requires("usage")
def get() -> Response:
    """Totals; or buckets, where a range, a grouping or a page is asked for."""
    form = forms.parse(forms.UsageQuery, forms.query(lists={"group_by"}))
    if not OF_BUCKETS & form.model_fields_set:
        return jsonify(render.usage_totals(caller(), usage.totals(caller(), _receipts(form))))
    receipts = _receipts(form, *_range(form))
    page = usage.by_group(caller(), receipts, form.group_by, form.limit, form.page)
    return jsonify(render.usage_page(receipts, form.group_by, page))


def _range(form: forms.UsageQuery) -> tuple[datetime, datetime | None]:
    """From the beginning of the billing period on, unless the query says otherwise. Raises InvalidRequest."""
    start = _moment(form.start_time) if form.start_time is not None else caller().period_start
    end = _moment(form.end_time) if form.end_time is not None else None
    if end is not None and end <= start:
        raise InvalidRequest(
            f"end_time must be after start_time, which is {render.unix(start)}: the range would be empty.",
            param="end_time",
        )
    return start, end


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _receipts(form: forms.UsageQuery, start: datetime | None = None, end: datetime | None = None) -> Receipts:
    return Receipts(
        start,
        end,
        form.model,
        _id("key_", form.api_key_id, "api_key_id"),
        _id("batch_", form.batch_id, "batch_id"),
    )


def _id(prefix: ids.Prefix, shown: str | None, param: str) -> UUID | None:
    found = ids.parse(prefix, shown) if shown is not None else None
    if found is None and shown is not None:
        raise InvalidRequest(f"{param} is an id that begins with {prefix}.", param=param)
    return found
