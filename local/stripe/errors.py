"""Errors in Stripe's shape, with the types, codes and texts that its clients tell apart."""

from collections.abc import Mapping
from typing import Any

NOT_AGAIN = {"Stripe-Should-Retry": "false"}


class RefusedError(Exception):
    """An answer that is an error. What a call did before it is taken back, unless it `keeps` that, as a declined
    payment keeps the attempt."""

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        keeps: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {**(headers or {})}
        self.keeps = keeps
        self._kind = kind
        self._code = code
        self._param = param

    def body(self) -> dict[str, Any]:
        told = {"message": str(self), "type": self._kind, "code": self._code, "param": self._param}
        return {"error": {name: value for name, value in told.items() if value is not None}}


def invalid(message: str, param: str | None = None, code: str | None = None) -> RefusedError:
    return RefusedError(400, "invalid_request_error", message, code=code, param=param)


def missing(param: str) -> RefusedError:
    return invalid(f"Missing required param: {param}.", param, "parameter_missing")


def unknown(param: str) -> RefusedError:
    return invalid(f"Received unknown parameter: {param}", param, "parameter_unknown")


def too_large() -> RefusedError:
    return RefusedError(413, "invalid_request_error", "The request is too large.")


def no_such(noun: str, id: str, param: str = "id") -> RefusedError:
    """Where the address names it Stripe answers 404, and 400 where another parameter does."""
    status = 404 if param == "id" else 400
    return RefusedError(
        status, "invalid_request_error", f"No such {noun}: '{id}'", code="resource_missing", param=param
    )


def declined(*, keeps: bool = True) -> RefusedError:
    return RefusedError(402, "card_error", "Your card was declined.", code="card_declined", keeps=keeps)


def repeated_event(identifier: str) -> RefusedError:
    message = f"An event already exists with identifier {identifier}."
    return RefusedError(400, "invalid_request_error", message, headers=NOT_AGAIN)


def other_parameters(key: str) -> RefusedError:
    message = (
        "Keys for idempotent requests can only be used with the same parameters they were first used with. "
        f"Try using a key other than '{key}' if you meant to execute a different request."
    )
    return RefusedError(400, "idempotency_error", message)


def no_key() -> RefusedError:
    message = (
        "You did not provide an API key. You need to provide your API key in the Authorization header, "
        "using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
    )
    return RefusedError(401, "invalid_request_error", message)


def bad_key() -> RefusedError:
    return RefusedError(401, "invalid_request_error", "Invalid API Key provided: the stand-in takes sk_test_... alone.")


def no_address(method: str, path: str) -> RefusedError:
    message = f"Unrecognized request URL ({method}: {path}). Stripe may know it; the stand-in does not."
    return RefusedError(404, "invalid_request_error", message, code="url_invalid")


def rate_limited() -> RefusedError:
    message = "Request rate limit exceeded."
    return RefusedError(
        429, "invalid_request_error", message, code="rate_limit", headers={"Stripe-Should-Retry": "true"}
    )


def server_error(headers: Mapping[str, str] | None = None) -> RefusedError:
    return RefusedError(500, "api_error", "An unknown error occurred.", headers=headers)
