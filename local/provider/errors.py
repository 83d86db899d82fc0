"""The provider's refusals, in OpenAI's shape and words."""

import json
from dataclasses import dataclass, replace

from local.provider.reply import Reply


@dataclass(slots=True, frozen=True)
class Error:
    """What an error answer says."""

    status: int
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    headers: bytes = b""

    def reply(self) -> Reply:
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return Reply(self.status, json.dumps({"error": error}).encode(), headers=self.headers)


class RefusedError(Exception):
    """The request is answered with this error instead."""

    def __init__(self, error: Error) -> None:
        super().__init__(error.message)
        self.error = error


def invalid(param: str, message: str, code: str = "invalid_value") -> RefusedError:
    """A request the provider cannot take: 400, naming the parameter."""
    return RefusedError(Error(400, message, param=param, code=code))


def with_retry_after(error: Error, seconds: float) -> Error:
    """With both of OpenAI's headers: whole seconds, rounded up, and milliseconds, which its SDKs read first."""
    milliseconds = max(round(seconds * 1_000), 1)
    lines = b"retry-after: %d\r\nretry-after-ms: %d\r\n" % (-(-milliseconds // 1_000), milliseconds)
    return with_headers(error, lines)


def with_headers(error: Error, lines: bytes) -> Error:
    """The error with more header lines, each ending in CRLF."""
    return replace(error, headers=error.headers + lines)


NOT_HTTP = Error(400, "This is not HTTP/1.1.")
TOO_LARGE = Error(413, "Request body is too large.")
NO_KEY = Error(
    401,
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY).",
)
NOT_JSON = Error(
    400,
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library "
    "correctly. The API expects a JSON payload, but what was sent was not valid JSON.)",
)
NO_MODEL = Error(400, "you must provide a model parameter")
SERVER_ERROR = Error(500, "The server had an error while processing your request. Sorry about that!", "server_error")
BAD_KEY = Error(401, "Incorrect API key provided: sk-sim****0000.", code="invalid_api_key")
NO_QUOTA = Error(
    429,
    "You exceeded your current quota, please check your plan and billing details.",
    "insufficient_quota",
    code="insufficient_quota",
)
REFUSED_VALUE = Error(
    400,
    "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) value is supported.",
    param="temperature",
    code="unsupported_value",
)
TIMED_OUT = Error(408, "The request timed out.", "timeout")
CONFLICT = Error(409, "The resource was changed by another request. Please try again.", "conflict")
OVERLOADED = Error(503, "The engine is currently overloaded, please try again later.", "service_unavailable")


def no_access(model: str) -> Error:
    return Error(403, f"Project `proj_sim` does not have access to model `{model}`.", code="model_not_found")


def no_model_named(model: str, hint: str = "") -> Error:
    message = f"The model `{model}` does not exist or you do not have access to it.{hint}"
    return Error(404, message, code="model_not_found")


def no_address(method: str, path: str) -> Error:
    return Error(404, f"Invalid URL ({method} {path})")


def wrong_method(method: str, path: str) -> Error:
    message = f"Not allowed to {method} on {path}. (HINT: Perhaps you meant to use a different HTTP method?)"
    return Error(405, message, code="method_not_supported")


def rate_limited(model: str, unit: str, limit: int, used: int, requested: int, wait: float) -> Error:
    """The unit is "requests" or "tokens" (per minute); the wait is in seconds."""
    short = {"requests": "RPM", "tokens": "TPM"}[unit]
    message = (
        f"Rate limit reached for {model} in organization org-sim on {unit} per min ({short}): Limit {limit}, "
        f"Used {used}, Requested {requested}. Please try again in {wait:.3g}s."
    )
    return with_retry_after(Error(429, message, unit, code="rate_limit_exceeded"), wait)


def over_limit(model: str, unit: str, limit: int, requested: int) -> Error:
    """A single request that is more than a whole minute's limit: no wait would help, so none is named."""
    message = (
        f"Request too large for {model} in organization org-sim on {unit} per min: Limit {limit}, Requested "
        f"{requested}. The input or output tokens must be reduced in order to run successfully."
    )
    return Error(429, message, unit, code="rate_limit_exceeded")
