"""/v1/jobs: one generation request at a time."""

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, ParamSpec
from uuid import UUID

from flask import Blueprint, Response, jsonify, make_response, request
from flask.typing import ResponseReturnValue

from common import jobs, models, queue
from common.endpoints import CHAT, check_body
from common.errors import InvalidRequest
from common.submission_webhooks import Webhook
from web import forms, queries, render, schemas, waiting
from web.auth import caller, requires
from web.documented import Answer, documented

blueprint = Blueprint("jobs", __name__, url_prefix="/jobs")

P = ParamSpec("P")


def _until_ended(view: Callable[P, ResponseReturnValue]) -> Callable[P, Response]:
    """Holds the answer to a submission until its job has ended, where `Prefer: wait=N` asks for that. What accepts the
    job is over by then, so that it is committed, and an answer given again is waited for like the first."""

    @wraps(view)
    def held(*args: P.args, **kwargs: P.kwargs) -> Response:
        response = make_response(view(*args, **kwargs))
        seconds = waiting.wanted_seconds(request.headers.get("Prefer"))
        if seconds is not None:
            _wait(response, seconds)
        return response

    return held


def _wait(response: Response, seconds: int) -> None:
    """Makes of the answer that accepts a job the one that shows it after the waiting."""
    batch_id = UUID(response.headers["Location"].rpartition("_")[2])
    job = waiting.until_ended(caller().account_id, batch_id, seconds)
    response.data = jsonify(render.job(job)).data
    response.headers["Preference-Applied"] = f"wait={seconds}"
    if job.status in jobs.ENDED:
        response.status_code = 200


@blueprint.post("")
@_until_ended
@requires("jobs", key=True, confirms=True)
@documented(
    "Submit a job",
    {
        202: Answer(schemas.Job, headers=("Location", "Preference-Applied")),
        200: Answer(schemas.Job, headers=("Location", "Preference-Applied")),
    },
    json=(forms.ShortJob, forms.FullJob),
    headers=("Prefer",),
    refuses=(409,),
)
def submit() -> tuple[Response, int]:
    """Accepts a job: 202, or 200 with the finished job where `Prefer: wait=N` was met."""
    # Looked at here so that one which means nothing is refused before anything is accepted.
    waiting.wanted_seconds(request.headers.get("Prefer"))
    sent = forms.json_object()
    read = _read_job(sent)
    models.check(caller().limits, read.body["model"])
    prefix = "body." if "body" in sent else ""
    job = jobs.submit(caller(), read.endpoint, read.body, read.metadata, prefix, read.expires_in, read.webhook)
    response = jsonify(render.job(job))
    response.headers["Location"] = f"/v1/jobs/{job.shown_id}"
    return response, 202


class _Read(NamedTuple):
    """What a submission says, in either form."""

    endpoint: str
    body: dict[str, Any]
    metadata: dict[str, str] | None
    expires_in: int | None
    webhook: Webhook | None


def _read_job(sent: dict[str, Any]) -> _Read:
    """Raises InvalidRequest."""
    full = [field for field in ("endpoint", "body") if field in sent]
    short = [field for field in forms.ShortJob.model_fields if field in sent and field not in forms.OF_BOTH_JOBS]
    if full and short:
        message = f"Send either endpoint and body, or model and prompt; not {full[0]} and {short[0]} together."
        raise InvalidRequest(message, param=short[0])
    if full:
        form = forms.parse(forms.FullJob, sent)
        check_body(form.endpoint, form.body)
        return _Read(form.endpoint, form.body, form.metadata, form.expires_in, forms.webhook(form))
    brief = forms.parse(forms.ShortJob, sent)
    messages = [{"role": "system", "content": brief.system}] if brief.system else []
    messages.append({"role": "user", "content": brief.prompt})
    body = {"model": brief.model, "messages": messages} | brief.body_fields()
    return _Read(CHAT, body, brief.metadata, brief.expires_in, forms.webhook(brief))


@blueprint.get("")
@requires("jobs")
@documented("List jobs, newest first", {200: schemas.Page[schemas.Job]}, query=queries.JobList)
def list_jobs() -> Response:
    query = queries.read(queries.JobList)
    found = jobs.list_single(caller().account_id, query.status, query.after, query.limit + 1)
    return jsonify(render.page(found, query.limit, render.job))


@blueprint.get("/<job_id>")
@requires("jobs")
@documented("Get a job", {200: schemas.Job})
def get(job_id: str) -> Response:
    return jsonify(render.job(jobs.get(caller().account_id, job_id)))


@blueprint.post("/<job_id>/cancel")
@requires("jobs")
@documented("Cancel a job", {200: schemas.Job}, refuses=(409,))
def cancel(job_id: str) -> Response:
    """At once when it is queued; a call in flight is stopped within seconds."""
    job = jobs.cancel(caller().account_id, job_id)
    if job.status not in jobs.ENDED:
        queue.enqueue_close(job.batch_id)
    return jsonify(render.job(job))
