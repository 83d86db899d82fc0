"""/v1/admin: the platform's switch and cap, what waits, what is paused, and who did what."""

from uuid import UUID

from flask import Blueprint, Response, jsonify
from redis.exceptions import RedisError

from common import accounts, audit, backlog, ids, platform, queue
from web import forms, queries, render
from web.acting import operator
from web.admin import forms as admin_forms
from web.admin import render as admin_render
from web.admin import schemas
from web.auth import requires
from web.documented import documented
from web.schemas import Page

blueprint = Blueprint("admin-platform", __name__, url_prefix="/admin")


@blueprint.get("/platform")
@requires("admin")
@documented("Get the platform's state", {200: schemas.Platform})
def get() -> Response:
    return jsonify(admin_render.platform(platform.get()))


@blueprint.patch("/platform")
@requires("admin")
@documented("Change the platform's cap", {200: schemas.Platform}, json=(admin_forms.ChangePlatform,))
def change() -> Response:
    """The cap on what all calls of a calendar month cost together."""
    form = forms.parse(admin_forms.ChangePlatform, forms.json_object())
    return jsonify(admin_render.platform(platform.set_cap(operator(), form.hard_cap)))


@blueprint.post("/platform/stop")
@requires("admin")
@documented("Stop all calls", {200: schemas.Platform}, json=(admin_forms.StopPlatform,))
def stop() -> Response:
    """No call starts any more, on any account's behalf."""
    form = forms.parse(admin_forms.StopPlatform, forms.json_object())
    return jsonify(admin_render.platform(platform.stop(operator(), form.reason)))


@blueprint.post("/platform/resume")
@requires("admin")
@documented("Let calls start again", {200: schemas.Platform})
def resume() -> Response:
    return jsonify(admin_render.platform(platform.resume(operator())))


@blueprint.get("/queues")
@requires("admin")
@documented("Get what waits", {200: schemas.Queues})
def queues() -> Response:
    """What waits. Without Redis the tickets are unknown, and the work is not."""
    tickets: dict[str, int] = {}
    state = "ok"
    try:
        tickets = queue.waiting()
    except RedisError:
        state = "does not answer"
    plans = [admin_render.depth(depth, tickets.get(queue.plan_queue(depth.plan))) for depth in backlog.depths()]
    tasks = {name: tickets.get(name) for name in (queue.INGESTS_QUEUE, queue.TASKS_QUEUE)}
    shown: schemas.Queues = {"object": "admin.queues", "redis": state, "plans": plans, "tasks": tasks}
    return jsonify(shown)


@blueprint.get("/paused_batches")
@requires("admin")
@documented("List paused batches", {200: Page[schemas.PausedBatch]}, query=queries.PausedBatches, refuses=(404,))
def paused_batches() -> Response:
    query = queries.read(queries.PausedBatches)
    found = backlog.paused(_account(query), query.after, query.limit + 1)
    return jsonify(render.page(found, query.limit, admin_render.paused_batch))


@blueprint.get("/audit_log")
@requires("admin")
@documented(
    "List what operators did, newest first", {200: Page[schemas.AuditEntry]}, query=queries.AuditLog, refuses=(404,)
)
def audit_log() -> Response:
    query = queries.read(queries.AuditLog)
    found = audit.list_page(_account(query), query.after, query.limit + 1)
    return jsonify(render.page(found, query.limit, admin_render.audit_entry))


def _account(query: queries.OfAccount) -> UUID | None:
    """The account that the query names, where it names one. Raises NotFound."""
    return None if query.account_id is None else accounts.get(ids.parse("acct_", query.account_id)).id
