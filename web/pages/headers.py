"""What browsers are told with every page: to load nothing from elsewhere, run nothing, and keep nothing."""

from collections.abc import Sequence

from flask import Response

from web.pages import cookies

YEAR_SECONDS = 31_536_000

# Forms go to us alone; what a form leads to by a redirect counts too, so that a page says where its forms lead.
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; "
    "form-action {targets}; base-uri 'none'; frame-ancestors 'none'"
)


def protect(answer: Response, form_targets: Sequence[str] = ()) -> None:
    """Adds them. `form_targets` are the origins, besides our own, that the page's forms may lead to."""
    answer.headers["Content-Security-Policy"] = POLICY.format(targets=" ".join(["'self'", *form_targets]))
    answer.headers["X-Content-Type-Options"] = "nosniff"
    # Links in mails hold tokens, which no other site gets to see. Without any referrer, forms would have no origin.
    answer.headers["Referrer-Policy"] = "same-origin"
    answer.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    answer.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    answer.headers["Permissions-Policy"] = "camera=(), geolocation=(), microphone=(), payment=()"
    # After logging out, "back" must not show what was there.
    answer.headers["Cache-Control"] = "no-store"
    if cookies.over_tls():
        answer.headers["Strict-Transport-Security"] = f"max-age={YEAR_SECONDS}"
