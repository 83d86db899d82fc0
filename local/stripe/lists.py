"""Lists as Stripe pages them, and objects as it shows them: without what is ours, with what is to be expanded."""

from collections.abc import Iterable
from typing import Any

from local.stripe.call import Call
from local.stripe.errors import invalid
from local.stripe.forms import Params
from local.stripe.store import OURS, Object, Store

DEFAULT_LIMIT, MOST = 10, 100
# What is only shown to those who ask.
HIDDEN = {"tiers": "price", "line_items": "checkout.session"}
DEEPEST = 4


def page(call: Call, url: str, found: Iterable[Object]) -> Object:
    """The part of what was found that the call asks for; `found` is in its order."""
    params = call.params
    limit = params.integer("limit", 1, MOST) or DEFAULT_LIMIT
    after, before = params.text("starting_after"), params.text("ending_before")
    listed = [one for one in found if not one.get("deleted")]
    ids = [one["id"] for one in listed]
    for cursor in filter(None, (after, before)):
        if cursor not in ids:
            raise invalid(
                f"No such object: '{cursor}'", "starting_after" if after else "ending_before", "resource_missing"
            )
    if after:
        listed = listed[ids.index(after) + 1 :]
    elif before:
        listed = listed[: ids.index(before)]
        return {"object": "list", "data": listed[-limit:], "has_more": len(listed) > limit, "url": url}
    return {"object": "list", "data": listed[:limit], "has_more": len(listed) > limit, "url": url}


def created_as_asked(params: Params, found: Iterable[Object]) -> list[Object]:
    """Those within `created`, which is a time or a range of them."""
    if not params.has("created"):
        return [*found]
    if params.is_text("created"):
        exactly = params.integer("created")
        return [one for one in found if one["created"] == exactly]
    bounds = params.group("created")
    least, above = bounds.integer("gte"), bounds.integer("gt")
    most, below = bounds.integer("lte"), bounds.integer("lt")
    return [
        one
        for one in found
        if (least is None or one["created"] >= least)
        and (above is None or one["created"] > above)
        and (most is None or one["created"] <= most)
        and (below is None or one["created"] < below)
    ]


def shown(store: Store, object: Object, expand: Iterable[str]) -> Object:
    """Raises RefusedError for what cannot be expanded."""
    wanted = [path.split(".") for path in expand]
    if any(len(path) > DEEPEST for path in wanted):
        raise invalid("You cannot expand more than 4 levels of a property", "expand")
    seen: Object = _shown(store, object, wanted)
    return seen


def _shown(store: Store, value: Any, wanted: list[list[str]]) -> Any:
    if isinstance(value, list):
        return [_shown(store, one, wanted) for one in value]
    if not isinstance(value, dict):
        return value
    seen = {}
    for name in (path[0] for path in wanted):
        if name not in value:
            raise invalid(f"This property cannot be expanded ({name}).", "expand")
    for name, inner in value.items():
        asked = [path[1:] for path in wanted if path[0] == name]
        hidden = name in HIDDEN and HIDDEN[name] == value.get("object")
        if name.startswith(OURS) or (hidden and not asked):
            continue
        if asked and isinstance(inner, str):
            inner = store.any(inner) or inner
        seen[name] = _shown(store, inner, [path for path in asked if path])
    return seen
