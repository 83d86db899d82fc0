"""/assets: the style sheet and the icon of the pages. Their addresses change with their content, so that browsers may
keep them."""

from functools import cache
from hashlib import sha256
from pathlib import Path

from flask import Blueprint, Response, send_from_directory, url_for

FOLDER = Path(__file__).parent.parent / "static"
YEAR_SECONDS = 31_536_000

blueprint = Blueprint("assets", __name__, url_prefix="/assets")


@blueprint.get("/<version>/<any('pages.css', 'icon.svg'):name>")
def asset(version: str, name: str) -> Response:
    """Whatever the version: a page of the release before may still ask for its own."""
    answer = send_from_directory(FOLDER, name, max_age=YEAR_SECONDS)
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer


@cache
def _version(name: str) -> str:
    return sha256((FOLDER / name).read_bytes()).hexdigest()[:12]


def address(name: str) -> str:
    """Where a page finds it."""
    return url_for("assets.asset", version=_version(name), name=name)
