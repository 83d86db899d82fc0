"""Everything Batchyard refuses or fails at on purpose, in one tree.

    BatchyardError
    ├── InvalidRequest          what was sent cannot be acted on; sending it again changes nothing
    │   ├── TooLarge            it is bigger than this server takes
    │   ├── Unsupported         it is in a form that this server does not read
    │   └── KeyReused           its idempotency key is another request's
    ├── AuthenticationFailed    no key, or not one of ours
    ├── PermissionDenied        a key of ours that may not do this
    ├── NotFound                no such thing, or not this account's: the two look the same
    ├── Conflict                the thing is in a state that does not allow it
    │   └── StillRunning        the same request is being served; a moment later its answer is there
    ├── RateLimited             too much at once; the same request succeeds later
    │   └── QuotaExceeded       the plan's allowance is used up; waiting a moment does not help
    └── Unavailable             a service we depend on is down; the same request succeeds later

The web edge maps each class to an HTTP status in one table; nothing here knows HTTP. A line of an uploaded file that
cannot be used is no exception but a `LineError`, because a file has many and the customer wants all of them.
"""

from dataclasses import dataclass


class BatchyardError(Exception):
    """The root. `message` says what happened and what to do, `param` which field it is about; `code` is a program's."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


class InvalidRequest(BatchyardError):
    """What was sent cannot be acted on as it stands."""


class TooLarge(InvalidRequest):
    """What was sent is over a size limit."""


class Unsupported(InvalidRequest):
    """What was sent is packed or written in a way that is not read here."""


class KeyReused(InvalidRequest):
    """An idempotency key came with another request than the one it is kept for."""


class AuthenticationFailed(BatchyardError):
    """Nobody we know sent this."""


class PermissionDenied(BatchyardError):
    """Somebody we know sent this, and may not do it."""


class NotFound(BatchyardError):
    """There is no such thing in this account."""


class Conflict(BatchyardError):
    """The state of the thing does not allow it."""


class StillRunning(Conflict):
    """The request is being served already, under the same idempotency key."""


class RateLimited(BatchyardError):
    """Too many requests, or too many tokens, in a short time. `retry_after` seconds later there is room."""

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message, param=param, code=code)
        self.retry_after = retry_after


class QuotaExceeded(RateLimited):
    """The allowance of the plan is used up."""


class Unavailable(BatchyardError):
    """A service that Batchyard depends on does not answer."""


@dataclass(frozen=True, slots=True)
class LineError:
    """A line of an uploaded file that cannot be used; the shape the Batch API lists in `errors.data`.

    `line` counts the lines of the file from 1: it is the one at which the row starts, or that cannot be read.
    """

    code: str
    line: int
    message: str
    param: str | None = None
