"""/account/keys: the account's API keys, of which a new one is shown once."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from common import keys
from common.errors import BatchyardError
from web.pages import note, visitor
from web.pages.form import Form
from web.pages.note import Note
from web.pages.visitor import signed_in

blueprint = Blueprint("keys", __name__, url_prefix="/account/keys")

PAGE_KEYS = 50
FOR_EVER = "never"
LIVES = {FOR_EVER: "Never", "30": "In 30 days", "90": "In 90 days", "365": "In a year"}


@blueprint.get("")
@signed_in("keys")
def page() -> str:
    chosen = [scope for scope in _offered() if scope in keys.DEFAULT_SCOPES]
    return render_template("keys.html", form=Form("name"), chosen=chosen, **_shown())


@blueprint.post("")
@signed_in("keys")
def make() -> Response | tuple[str, int]:
    form = Form.sent("name", "scopes", "life")
    chosen = request.form.getlist("scopes")
    try:
        made = keys.issue(
            visitor.person().actor, visitor.caller().account_id, form["name"], chosen, _expiry(form.values["life"])
        )
    except BatchyardError as error:
        return form.again(error, "keys.html", chosen=chosen, **_shown())
    return note.leave(redirect(url_for(".page"), 303), Note(key=made.secret, name=made.key.name))


@blueprint.post("/<key_id>/revoke")
@signed_in("keys")
def revoke(key_id: str) -> Response:
    revoked = keys.revoke(visitor.person().actor, visitor.caller().account_id, key_id)
    return note.leave(redirect(url_for(".page"), 303), Note(f"The key “{revoked.name}” is revoked."))


def _expiry(days: str) -> datetime | None:
    return datetime.now(UTC) + timedelta(days=int(days)) if days in LIVES and days != FOR_EVER else None


def _offered() -> Sequence[str]:
    """The scopes that the person may give a key."""
    return [scope for scope in keys.SCOPES if scope in visitor.caller().scopes]


def _shown() -> dict[str, object]:
    after = request.args.get("after")
    found = keys.list_page(visitor.person().actor, visitor.caller().account_id, after, PAGE_KEYS + 1)
    older = found[PAGE_KEYS - 1].shown_id if len(found) > PAGE_KEYS else None
    return {"keys": found[:PAGE_KEYS], "older": older, "scopes": _offered(), "lives": LIVES}
