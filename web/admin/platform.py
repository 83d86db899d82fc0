"""/v1/admin: the platform's switch and cap, what waits, what is paused, and who did what."""

from flask import Blueprint, Response, jsonify
from redis.exceptions import RedisError

from common import audit, backlog, platform, queue
from web import forms, render
from web.acting import operator
from web.admin import forms as admin_forms
from web.admin import render as admin_render
from web.auth import requires

blueprint = Blueprint("admin-platform", __name__, url_prefix="/admin")


@blueprint.get("/platform")
@requires("admin")
def get() -> Response:
    return jsonify(admin_render.platform(platform.get()))


@blueprint.patch("/platform")
@requires("admin")
def change() -> Response:
    """The cap on what all calls of a calendar month cost together."""
    form = forms.parse(admin_forms.ChangePlatform, forms.json_object())
    return jsonify(admin_render.platform(platform.set_cap(operator(), form.hard_cap)))


@blueprint.post("/platform/stop")
@requires("admin")
def stop() -> Response:
    """No call starts any more, on any account's behalf."""
    form = forms.parse(admin_forms.StopPlatform, forms.json_object())
    return jsonify(admin_render.platform(platform.stop(operator(), form.reason)))


@blueprint.post("/platform/resume")
@requires("admin")
def resume() -> Response:
    return jsonify(admin_render.platform(platform.resume(operator())))


@blueprint.get("/queues")
@requires("admin")
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
    return jsonify({"object": "admin.queues", "redis": state, "plans": plans, "tasks": tasks})


@blueprint.get("/paused_batches")
@requires("admin")
def paused_batches() -> Response:
    limit, after = forms.page()
    found = backlog.paused(admin_forms.wanted_account(), after, limit + 1)
    return jsonify(render.page(found, limit, admin_render.paused_batch))


@blueprint.get("/audit_log")
@requires("admin")
def audit_log() -> Response:
    limit, after = forms.page()
    found = audit.list_page(admin_forms.wanted_account(), after, limit + 1)
    return jsonify(render.page(found, limit, admin_render.audit_entry))
