"""/openapi.json leaves nothing out, and /docs needs nothing from elsewhere."""

import io
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from jsonschema_rs import meta

from tests.web_client import WebClient, refused

# What shows the document, and is in no need of being in it; and what is no customer's.
UNSHOWN = {"/openapi.json", "/docs", "/docs/start.js", "/docs/<name>", "/stripe/webhook"}

# What people see in a browser is no API.
OF_PEOPLE = ("pages.", "assets.")


@pytest.fixture
def app(web: WebClient) -> Flask:
    return web.app


@pytest.fixture
def document(web: WebClient) -> dict[str, Any]:
    found: dict[str, Any] = web.get("/openapi.json").get_json()
    return found


def plain(rule: str) -> str:
    """An address of the app as people write it."""
    return re.sub(r"<(?:[^<>]*:)?(\w+)>", r"<\1>", rule)


def test_every_address_with_every_method_is_documented(app: Flask, document: dict[str, Any]) -> None:
    documented = {
        (path, method.upper())
        for path, methods in document["paths"].items()
        for method in methods
    }  # fmt: skip
    served = {
        (plain(rule.rule).replace("<", "{").replace(">", "}"), method)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if plain(rule.rule) not in UNSHOWN and not rule.endpoint.startswith(OF_PEOPLE)
    }
    without_version = {(path.removeprefix("/v1"), method) for path, method in documented}
    assert served == documented | without_version
    plain_paths = {path for path, _ in documented if not path.startswith(("/v1/", "/auth/"))}
    assert plain_paths == {"/healthz", "/readyz"}


def test_every_operation_says_what_it_is_who_may_call_it_and_how_it_fails(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    operations = [
        (path, operation) for path, methods in document["paths"].items() for operation in methods.values()
    ]  # fmt: skip
    for path, operation in operations:
        statuses = operation["responses"].keys()
        assert operation["summary"]
        assert set(operation["tags"]) <= {tag["name"] for tag in document["tags"]}
        assert operation["security"] or not path.startswith("/v1/")
        assert not statuses & {"500", "default"}
        for named, errors in (("/v1/", {"401", "403", "429", "503"}), ("{", {"404"})):
            assert named not in path or errors <= statuses
        assert "requestBody" not in operation or {"400", "413", "415"} <= statuses
    assert len({operation["operationId"] for _, operation in operations}) == len(operations)


def test_every_schema_is_one_and_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema)
    for reference in references(document):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from ([value["$ref"]] if "$ref" in value else [])
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from references(item)


def test_the_page_needs_no_other_host_and_lets_no_other_script_in(web: WebClient) -> None:
    page = web.get("/docs")
    assert page.content_type.startswith("text/html")
    policy = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert not re.search(r"<script>|<style>|style=|://", page.text)
    loaded = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert len(loaded) == 5
    for path in loaded:
        with web.get(path) as answer:
            assert answer.status_code == 200, path
            assert answer.headers["Content-Type"].split(";")[0] in (
                "text/css", "text/javascript", "image/png", "application/json",
            )  # fmt: skip
    assert json.dumps("/openapi.json").replace('"', "'") in web.get("/docs/start.js").text
    refused(web.get("/docs/../openapi.py"), 404)
    refused(web.get("/docs/LICENSE"), 404)


def test_a_number_of_a_query_is_checked_also_where_it_is_not_used(web: WebClient) -> None:
    file = web.post("/v1/files", data={"purpose": "batch", "file": (io.BytesIO(b"{}"), "a.jsonl")}).get_json()
    error = refused(web.get(f"/v1/files/{file['id']}/content", offset="ten"), 400)
    assert error["param"] == "offset"
    assert error["message"] == "offset is a whole number, written in digits."
