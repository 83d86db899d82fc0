"""/openapi.json, and /docs: a page that shows it, with Swagger UI from a package of ours and nothing from elsewhere."""

from functools import cache
from importlib.resources import files
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, send_from_directory

from web import openapi

blueprint = Blueprint("docs", __name__)

RENDERER = str(files("flask_swagger_ui") / "dist")
DAY_SECONDS = 86_400

# The renderer draws its icons from data: addresses, and is let to call nobody but us.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Batchyard API</title>
<link rel="icon" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<noscript>This page needs JavaScript; <a href="/openapi.json">the document that it shows</a> does not.</noscript>
<div id="docs"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
# A file of its own: the policy runs no script that stands in a page.
START = """\
SwaggerUIBundle({ url: '/openapi.json', dom_id: '#docs', deepLinking: true, docExpansion: 'list', validatorUrl: null })
"""


@blueprint.get("/openapi.json")
def document() -> Response:
    return jsonify(_document())


@cache
def _document() -> dict[str, Any]:
    """Of the first app of this process that is asked: all have the same views."""
    return openapi.document(current_app)


@blueprint.get("/docs")
def page() -> Response:
    return _safe(Response(PAGE, content_type="text/html; charset=utf-8"))


@blueprint.get("/docs/start.js")
def start() -> Response:
    return _safe(Response(START, content_type="text/javascript; charset=utf-8"))


@blueprint.get("/docs/<any('swagger-ui.css', 'swagger-ui-bundle.js', 'favicon-32x32.png'):name>")
def asset(name: str) -> Response:
    return _safe(send_from_directory(RENDERER, name, max_age=DAY_SECONDS))


def _safe(answer: Response) -> Response:
    answer.headers["Content-Security-Policy"] = POLICY
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Referrer-Policy"] = "no-referrer"
    return answer
