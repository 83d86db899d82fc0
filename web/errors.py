"""Every error of the API in one shape, with the one table of status codes."""

import errno
import logging
import time
from contextlib import suppress
from functools import partial
from socket import socket
from typing import Any

from flask import Flask, Response, jsonify, request
from redis.exceptions import RedisError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException

from common import errors
from web import request_body
from web.request_body import Sent

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 2
RUNNING_RETRY_AFTER_SECONDS = 1
# A program waits this long for its turn; the rest of a day it does not.
SOON_SECONDS = 120
READ_ON_SECONDS = 5.0
READ_ON_BYTES = 1024

# What a write is answered where there is no room for it: on the disk, in its owner's share of it, in a file.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

# The first class that an error is an instance of decides: subclasses stand before their parents.
STATUS = {
    errors.TooLarge: (413, "invalid_request_error"),
    errors.Unsupported: (415, "invalid_request_error"),
    errors.KeyReused: (422, "invalid_request_error"),
    errors.InvalidRequest: (400, "invalid_request_error"),
    errors.AuthenticationFailed: (401, "authentication_error"),
    errors.PermissionDenied: (403, "permission_error"),
    errors.NotFound: (404, "not_found_error"),
    errors.Conflict: (409, "conflict_error"),
    errors.QuotaExceeded: (429, "quota_error"),
    errors.RateLimited: (429, "rate_limit_error"),
    errors.Unavailable: (503, "unavailable_error"),
}

CURES = {
    404: ("not_found_error", "There is no such address: see the README for the routes."),
    405: ("invalid_request_error", "This address does not take that method."),
    413: ("invalid_request_error", "The body is over the size limit of this server: send less at once."),
    415: ("invalid_request_error", "This address takes JSON, or a multipart form where it says so."),
}


def register(app: Flask) -> None:
    """Makes the app answer every failure in the API's shape."""
    app.register_error_handler(errors.BatchyardError, _refused)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(OperationalError, _database_away)
    app.register_error_handler(InterfaceError, _database_away)
    # So many at once that none of this process's connections was to be had.
    app.register_error_handler(PoolTimeout, _database_away)
    app.register_error_handler(RedisError, _redis_away)
    app.register_error_handler(OSError, _no_room)
    app.register_error_handler(RecursionError, _too_deep)
    app.register_error_handler(Exception, _unexpected)


def _body(message: str, kind: str, param: str | None = None, code: str | None = None) -> Response:
    response = jsonify({"error": {"message": message, "type": kind, "param": param, "code": code}})
    connection, sent = request.environ.get("gunicorn.socket"), request.environ.get(request_body.SENT)
    if connection is not None and sent is not None:
        response.call_on_close(partial(_read_on, connection, sent))
    return response


def _read_on(connection: socket, sent: Sent) -> None:
    """Takes what a refused client still sends, for a while after it has its answer. Closing the connection under it at
    once would be what it sees, and not the answer: some clients read only once they could write everything."""
    deadline = time.monotonic() + READ_ON_SECONDS
    # The answer is out; whatever is wrong with what follows it changes nothing.
    with suppress(Exception):
        while (seconds := deadline - time.monotonic()) > 0:
            connection.settimeout(seconds)
            if not sent.skip(READ_ON_BYTES):
                break
        connection.settimeout(None)


def status_of(error: errors.BatchyardError) -> int:
    """The status that an error is answered with."""
    return _answer_to(error)[0]


def _answer_to(error: errors.BatchyardError) -> tuple[int, str]:
    return next(answer for cls, answer in STATUS.items() if isinstance(error, cls))


def _refused(error: errors.BatchyardError) -> tuple[Response, int]:
    status, kind = _answer_to(error)
    response = _body(error.message, kind, error.param, error.code)
    if status in (403, 409, 422, 429):
        # Some clients retry these by themselves, and no scope, state or used-up quota changes by asking again.
        far = isinstance(error, errors.RateLimited) and (error.retry_after or 0) > SOON_SECONDS
        passing = type(error) in (errors.RateLimited, errors.StillRunning) and not far
        response.headers["x-should-retry"] = "true" if passing else "false"
    if isinstance(error, errors.StillRunning):
        response.headers["Retry-After"] = str(RUNNING_RETRY_AFTER_SECONDS)
    if isinstance(error, errors.RateLimited) and error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    if status == 415:
        # RFC 7694: the encodings that a body may have.
        response.headers["Accept-Encoding"] = "gzip"
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response, status


def _http(error: HTTPException) -> tuple[Response, int] | HTTPException:
    status = error.code or 500
    if status < 400:
        return error
    kind, message = CURES.get(status, ("invalid_request_error", error.description or error.name))
    response = _body(message, kind)
    allowed: Any = getattr(error, "valid_methods", None)
    if allowed:
        response.headers["Allow"] = ", ".join(sorted(allowed))
    return response, status


def _database_away(error: Exception) -> tuple[Response, int]:
    log.error("PostgreSQL does not answer", exc_info=error)
    return _refused(errors.Unavailable("The database does not answer: send the request again.", code="database_away"))


def _redis_away(error: Exception) -> tuple[Response, int]:
    log.error("Redis does not answer", exc_info=error)
    return _refused(errors.Unavailable("Redis does not answer: send the request again.", code="redis_away"))


def _no_room(error: OSError) -> tuple[Response, int]:
    """Here, since content that is buffered meets the full disk wherever it is next written, read or closed."""
    if error.errno not in NO_ROOM:
        return _unexpected(error)
    log.error("there is no room for what was sent", exc_info=error)
    message = "The server's disk has no room for what was sent: send the request again, later or smaller."
    return _refused(errors.Unavailable(message, code="storage_full"))


def _too_deep(error: RecursionError) -> tuple[Response, int]:
    """Here, since what could just be parsed may be too deep for whatever is done with it further down."""
    log.error("what was sent is nested too deeply", exc_info=error)
    message = "The body's JSON is nested too deeply: send it with fewer levels."
    return _refused(errors.InvalidRequest(message, code="invalid_json"))


def _unexpected(error: Exception) -> tuple[Response, int]:
    log.error("a request failed in a way nobody thought of", exc_info=error)
    return _body("The server failed; its log says why, under this answer's x-request-id.", "server_error"), 500
