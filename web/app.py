"""The Flask app: parse, call one verb, render."""

import logging
import random
import time
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, g, request
from flask.json.provider import JSONProvider

from common import json_text, logs
from common.plans import plans
from common.settings import settings
from web import (
    admin,
    api_keys,
    auth,
    auth_accounts,
    auth_email,
    auth_invitations,
    auth_members,
    auth_passwords,
    auth_sessions,
    auth_sign_up,
    batches,
    billing,
    cli,
    cli_billing,
    cli_doctor,
    cli_metering,
    cli_people,
    cli_platform,
    cli_webhooks,
    cli_workers,
    docs,
    errors,
    files,
    health,
    jobs,
    limits,
    models,
    pages,
    rate_limits,
    request_body,
    stripe_webhook,
    usage,
    webhook_deliveries,
    webhook_endpoints,
    webhook_event_types,
    webhook_secret,
)
from web.multipart import UploadRequest

log = logging.getLogger("web.access")


class Json(JSONProvider):
    """As all of the platform reads and writes it."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        return json_text.dumps(obj).decode()

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        return json_text.loads(s)

    def response(self, *args: Any, **kwargs: Any) -> Response:
        content = json_text.dumps(self._prepare_response_obj(args, kwargs)) + b"\n"
        return Response(content, mimetype="application/json")


class App(Flask):
    """Flask, without what every request would pay for and none needs."""

    json_provider_class = Json

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Itself: no view is a coroutine, and Flask would look at six functions for each request."""
        return func


def create_app() -> Flask:
    """The app, with its settings checked."""
    logs.configure()
    plans()
    app = App("batchyard", static_folder=None)
    app.request_class = UploadRequest
    app.config["MAX_CONTENT_LENGTH"] = settings().max_upload_bytes
    app.config["MAX_FORM_MEMORY_SIZE"] = settings().max_body_bytes
    app.before_request(_begin)
    app.before_request(request_body.receive)
    app.before_request(auth.authenticate)
    rate_limits.init_app(app)
    app.after_request(_end)
    errors.register(app)
    app.register_blueprint(health.blueprint)
    app.register_blueprint(docs.blueprint)
    app.register_blueprint(stripe_webhook.blueprint)
    webhooks = (webhook_endpoints, webhook_event_types, webhook_deliveries, webhook_secret)
    resources = (jobs, batches, files, models, api_keys, usage, billing, limits, *webhooks)
    customers = [resource.blueprint for resource in resources]
    for blueprint in (*customers, *admin.blueprints):
        app.register_blueprint(blueprint, url_prefix=f"/v1{blueprint.url_prefix}")
        # Some clients of the Batch API leave the version out.
        app.register_blueprint(blueprint, name=f"unversioned-{blueprint.name}")
    people = (auth_sign_up, auth_sessions, auth_passwords, auth_email, auth_accounts, auth_members, auth_invitations)
    for resource in people:
        app.register_blueprint(resource.blueprint)
    pages.init_app(app)
    operators = (cli_platform.platform_group, cli_platform.queues_group, cli_platform.audit_group)
    cli_metering.add_to(cli_billing.billing_group)
    for group in (
        cli.accounts_group,
        cli.keys_group,
        cli_people.people_group,
        cli_billing.billing_group,
        cli_webhooks.webhooks_group,
        *operators,
    ):
        app.cli.add_command(group)
    for command in (cli_doctor.doctor, cli_workers.workers_group, cli_workers.requeue_batch):
        app.cli.add_command(command)
    return app


def _begin() -> None:
    g.started = time.perf_counter()
    # It is no secret, and so can be made without letting go of the interpreter, as a random UUID cannot.
    g.request_id = f"req_{random.getrandbits(128):032x}"
    logs.request_id.set(g.request_id)
    logs.account_id.set(None)
    logs.batch_id.set(None)


def _end(response: Response) -> Response:
    response.headers["x-request-id"] = g.request_id
    milliseconds = round((time.perf_counter() - g.started) * 1000, 1)
    log.info(
        "%s %s",
        request.method,
        request.path,
        extra={"status": response.status_code, "milliseconds": milliseconds},
    )
    return response
