"""Is the process alive, and can it serve?"""

import logging

from flask import Blueprint, Response, jsonify
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from common import queue
from common.database import web_engine
from web import rate_limits, schemas
from web.documented import documented

log = logging.getLogger(__name__)
blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
@documented("Is the process alive?", {200: schemas.Alive})
def healthz() -> Response:
    """The process answers."""
    return jsonify({"status": "ok"})


@blueprint.get("/readyz")
@documented("Can the process serve?", {200: schemas.Readiness, 503: schemas.Readiness})
def readyz() -> tuple[Response, int]:
    """PostgreSQL and Redis answer; 503 names the one that does not. `rate_limits` says whether they hold for all web
    processes together or, while Redis is away, for each by itself: that alone makes no process less ready."""
    checks = {"postgresql": _postgresql(), "redis": _redis()}
    ready = all(state == "ok" for state in checks.values())
    shown: schemas.Readiness = {
        "status": "ready" if ready else "not ready",
        "checks": checks,
        "rate_limits": "shared" if rate_limits.current().windows.look() else "each process by itself",
    }
    return jsonify(shown), 200 if ready else 503


def _postgresql() -> str:
    try:
        with web_engine().connect() as connection:
            connection.execute(text("SELECT 1"))
    except SQLAlchemyError as error:
        log.error("PostgreSQL does not answer", extra={"error": str(error)})
        return "does not answer"
    return "ok"


def _redis() -> str:
    try:
        queue.redis().ping()
    except RedisError as error:
        log.error("Redis does not answer", extra={"error": str(error)})
        return "does not answer"
    return "ok"
