"""An error of a page is a page: the same status, and the same words, which web/errors.py has for all of them."""

from flask import Response, g, render_template, request

from web.pages import headers

TITLES = {
    400: "That did not work",
    401: "Log in first",
    403: "You may not do this",
    404: "There is no such page",
    405: "There is no such page",
    409: "That did not work",
    413: "That is too much",
    415: "That did not work",
    429: "Too much at once",
    503: "Not just now",
}
NO_PAGE = "The address is mistyped, or what was here is gone."
FAILED = "It is not your doing. What you wanted may have happened or not: look before you try again."
# Addresses of programs: what is said of them is JSON, whoever asks.
OF_PROGRAMS = ("/v1/", "/auth/", "/stripe/")


def is_page() -> bool:
    """Whether this request is a person's: for a page, or for an address that there is not, by a browser."""
    if request.endpoint is not None:
        return request.endpoint.startswith("pages.")
    accepted = request.accept_mimetypes
    return accepted["text/html"] > accepted["application/json"] and not request.path.startswith(OF_PROGRAMS)


def finish(response: Response) -> None:
    """Makes a page of an error, and protects every page."""
    headers.protect(response, g.get("form_targets", ()))
    if response.status_code >= 400 and response.mimetype == "application/json":
        _as_page(response)


def _as_page(response: Response) -> None:
    status = response.status_code
    said: str = response.get_json()["error"]["message"]
    text = {404: NO_PAGE, 405: NO_PAGE, 500: FAILED}.get(status, said)
    title = TITLES.get(status, "Something failed")
    response.set_data(
        render_template("failure.html", title=title, text=text, request_id=g.request_id if status >= 500 else None)
    )
    response.mimetype = "text/html"
