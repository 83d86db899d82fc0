"""What the OpenAPI document says of the API as a whole, and what many operations have in common."""

from typing import Any

from common.idempotency import HEADER, MAX_KEY_CHARACTERS

ABOUT = """\
Prompts go in one at a time, as batch files, or as a CSV with a template. Batchyard runs them against a model service,
keeps an exact account of tokens and money, and gives the answers back by polling or by download; signed webhooks
tell of them.

An API key goes into `Authorization: Bearer` or `X-API-Key`. People log in at `/auth/log-in`; what their role in an
account lets them do takes their access token in the place of a key, but for what runs jobs. Bodies may be sent with
`Content-Encoding: gzip`. Whatever its method, a request is answered with 413 when its body is too large, and with 415
when its encoding is not read here. Every answer has an `x-request-id` that the logs know. Paths work without `/v1` too,
as some clients of the Batch API expect.
"""

TAGS = {
    "jobs": "One generation request at a time.",
    "batches": "Many jobs submitted together.",
    "files": "Inputs, and the outputs and errors of batches.",
    "models": "What may be asked for.",
    "api_keys": "The keys of the account.",
    "usage": "What was used, and what it cost.",
    "billing": "The plan and what is paid for it.",
    "limits": "What applies, and what is left of it.",
    "webhook_endpoints": "Where the account is told of its events, and of which.",
    "webhook_event_types": "What there is to be told of.",
    "webhook_deliveries": "What was sent to its endpoints, and sending it again.",
    "webhook_secret": "What signs for URLs that jobs and batches name.",
    "auth-sign-up": "For people: how one and one's account come to be.",
    "auth-sessions": "For people: where one is logged in.",
    "auth-passwords": "For people: changing a password, and resetting it.",
    "auth-email": "For people: changing an address.",
    "auth-accounts": "For people: who one is, and the accounts that one may work in.",
    "auth-members": "For people: who is in the account.",
    "auth-invitations": "For people: who is invited to the account.",
    "admin-accounts": "For operators: every account, and its keys.",
    "admin-platform": "For operators: the switch and the cap for all calls, what waits, and who did what.",
    "health": "Is the process alive, and can it serve?",
}

OF_KEYS, OF_PEOPLE = ("bearer", "header"), "person"
SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
    "person": {
        "type": "http",
        "scheme": "bearer",
        "description": "A person's access token, of POST /auth/log-in, where their role in the account has the scope."
        " Or a token of the operator's identity provider, with which the header Batchyard-Account names the account.",
    },
}

ERRORS = {
    400: "The request cannot be acted on as it stands.",
    401: "There is no API key or access token, or none that is valid.",
    403: "The key or the person's role lacks the scope, the account is suspended, or its plan does not allow this.",
    404: "There is no such thing in this account.",
    409: "The state of the thing does not allow it, or the same request is being served under its Idempotency-Key.",
    413: "What was sent is over a size limit.",
    415: "What was sent is in a form that is not read here.",
    422: "The Idempotency-Key has come with another request.",
    429: "Too much at once, or an allowance that is used up; x-should-retry tells which, Retry-After for how long.",
    503: "A service that Batchyard depends on does not answer: the same request succeeds later.",
}
ERROR_HEADERS = {
    401: ("WWW-Authenticate",),
    409: ("x-should-retry", "Retry-After"),
    422: ("x-should-retry",),
    429: ("x-should-retry", "Retry-After"),
    503: ("Retry-After",),
}

RATE_HEADERS = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "RateLimit-Policy")
COUNT = {"type": "integer", "minimum": 0}
TRUTH = {"type": "string", "enum": ["true", "false"]}
HEADERS: dict[str, dict[str, Any]] = {
    "x-request-id": {"description": "What the logs call the request.", "schema": {"type": "string"}, "required": True},
    "Location": {"description": "Where this is from now on.", "schema": {"type": "string"}, "required": True},
    "Idempotency-Replayed": {"description": "The answer is that of an earlier request.", "schema": TRUTH},
    "Preference-Applied": {"description": "How long the answer might have waited.", "schema": {"type": "string"}},
    "Content-Disposition": {"description": "The file's name.", "schema": {"type": "string"}},
    "X-Incomplete": {"description": "Of a batch's file: whether more lines will follow.", "schema": TRUTH},
    "X-Last-Line": {"description": "Of a batch's file: how many lines it has.", "schema": {"type": "integer"}},
    "RateLimit-Limit": {"description": "The limit that the fewest requests are left of.", "schema": COUNT},
    "RateLimit-Remaining": {"description": "How many more requests may come under it.", "schema": COUNT},
    "RateLimit-Reset": {"description": "After how many seconds there is more room.", "schema": COUNT},
    "RateLimit-Policy": {"description": "Every limit that holds: `requests;w=seconds`.", "schema": {"type": "string"}},
    "WWW-Authenticate": {"description": "How to send a key or token.", "schema": {"type": "string"}, "required": True},
    "Retry-After": {"description": "After how many seconds to ask again.", "schema": {"type": "integer"}},
    "x-should-retry": {"description": "Whether the same request may succeed later.", "schema": TRUTH},
}

PARAMETERS: dict[str, dict[str, Any]] = {
    HEADER: {
        "description": "Names the request: sent again within 24 hours it is not done again, and gets its first answer.",
        # Blanks around a header's value are no part of it.
        "schema": {"type": "string", "pattern": "^[!-~]([ -~]*[!-~])?$", "maxLength": MAX_KEY_CHARACTERS},
    },
    "Prefer": {
        "description": "`wait=N` holds the answer until the job has ended, up to N seconds (1 to 60).",
        "schema": {"type": "string"},
        "example": "wait=5",
    },
}
