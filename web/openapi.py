"""The OpenAPI 3.1 document, made of what the code goes by: the addresses of the app, the forms that check what is sent,
and the types that mypy holds what is answered to."""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from http import HTTPStatus
from typing import Any

from flask import Flask
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema
from werkzeug.routing import Rule

from common.idempotency import HEADER
from web import schemas
from web.auth import ACCESS, Access
from web.documented import Answer, Operation
from web.fields import STORABLE_JSON
from web.openapi_texts import (
    ABOUT,
    ERROR_HEADERS,
    ERRORS,
    HEADERS,
    OF_KEYS,
    OF_PEOPLE,
    PARAMETERS,
    RATE_HEADERS,
    SECURITY,
    TAGS,
)
from web.queries import Query

Json = dict[str, Any]
View = Callable[..., Any]


def document(app: Flask) -> Json:
    """The document of every address that has a version, and of those that need none."""
    rules = sorted(filter(partial(_is_shown, app), app.url_map.iter_rules()), key=_place)
    views = [(rule, app.view_functions[rule.endpoint]) for rule in rules]
    found = Shapes({shape for _, view in views for shape in operation_of(view).shapes} | {schemas.Error})
    paths: dict[str, Json] = {}
    for rule, view in views:
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            paths.setdefault(_path(rule), {})[method.lower()] = _operation(rule, method, view, found)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Batchyard", "version": "1", "description": ABOUT},
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": found.components | {"StorableJson": STORABLE_JSON},
            "responses": {f"Error{status}": _error(status, found) for status in ERRORS},
            "headers": HEADERS,
            "parameters": {name: {"name": name, "in": "header"} | said for name, said in PARAMETERS.items()},
            "securitySchemes": SECURITY,
        },
    }


def operation_of(view: View) -> Operation:
    """What is said of a view. Raises KeyError when nothing is."""
    found: Operation = vars(view)["documented"]
    return found


def _is_shown(app: Flask, rule: Rule) -> bool:
    return "documented" in vars(app.view_functions[rule.endpoint]) and not rule.endpoint.startswith("unversioned-")


def _place(rule: Rule) -> int:
    """Where it stands: the document is in the order of its tags, what jobs need before what people and operators do."""
    return [*TAGS].index(_tag(rule))


def _tag(rule: Rule) -> str:
    name: str = rule.endpoint
    return name.partition(".")[0]


def _path(rule: Rule) -> str:
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)


def _operation(rule: Rule, method: str, view: View, found: "Shapes") -> Json:
    said = operation_of(view)
    access: Access | None = vars(view).get(ACCESS)
    repeatable = method == "POST" and access is not None and access.keys
    parameters = [
        *(
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in sorted(rule.arguments)
        ),
        *(_query_parameters(said.query) if said.query is not None else ()),
        *({"$ref": f"#/components/parameters/{name}"} for name in (*said.headers, *((HEADER,) if repeatable else ()))),
    ]
    body = _body(said, found)
    errors = sorted(_errors(said, rule, access) | ({400, 409, 413, 415, 422} if repeatable else set()))
    headers = (*(RATE_HEADERS if access is not None else ()), *(("Idempotency-Replayed",) if repeatable else ()))
    shown = {
        "operationId": re.sub(r"\W", "_", rule.endpoint),
        "tags": [_tag(rule)],
        "summary": said.summary,
        "description": inspect.getdoc(view),
        "security": _security(access),
        "parameters": parameters,
        "requestBody": body,
        "responses": {
            **{str(status): _answer(status, answer, headers, found) for status, answer in said.answers.items()},
            **{str(status): {"$ref": f"#/components/responses/Error{status}"} for status in errors},
        },
    }
    return {name: value for name, value in shown.items() if value or name == "security"}


def _security(access: Access | None) -> list[Json]:
    """What may be sent to prove who one is; nothing, where anybody may call."""
    if access is None:
        return []
    scopes = [access.scope] if access.scope is not None else []
    names = ((*OF_KEYS,) if access.keys else ()) + ((OF_PEOPLE,) if access.people else ())
    return [{name: scopes} for name in names]


def _query_parameters(query: type[Query]) -> Iterator[Json]:
    for name, field in query.model_json_schema(schema_generator=Generator)["properties"].items():
        schema = _without_null(field)
        description = {"description": schema.pop("description")} if "description" in schema else {}
        yield {"name": name, "in": "query"} | description | {"schema": schema}


def _without_null(field: Json) -> Json:
    """Of what is sent as text: it is there, or it is not."""
    found = {name: value for name, value in field.items() if name != "anyOf" and value is not None}
    for choice in field.get("anyOf", ()):
        found |= choice if choice != {"type": "null"} else {}
    return found


def _body(said: Operation, found: "Shapes") -> Json | None:
    forms = [found.schema(form) for form in said.json]
    content = {"application/json": {"schema": forms[0] if len(forms) == 1 else {"anyOf": forms}}} if forms else {}
    if said.upload is not None:
        encoding = {"file": {"contentType": said.upload.media}}
        content["multipart/form-data"] = {"schema": found.upload(said.upload.form), "encoding": encoding}
    return {"required": True, "content": content} if content else None


def _answer(status: int, answer: Answer, headers: Iterable[str], found: "Shapes") -> Json:
    content: Json = {"application/json": {"schema": found.schema(answer.shape)}} if answer.shape is not None else {}
    return {
        "description": HTTPStatus(status).phrase,
        "headers": _headers((*answer.headers, *headers)),
        "content": content | {media: {} for media in answer.media},
    }


def _headers(names: Iterable[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ("x-request-id", *names)}


def _error(status: int, found: "Shapes") -> Json:
    shape = {"application/json": {"schema": found.schema(schemas.Error)}}
    return {
        "description": ERRORS[status],
        "headers": _headers((*ERROR_HEADERS.get(status, ()), *RATE_HEADERS)),
        "content": shape,
    }


def _errors(said: Operation, rule: Rule, access: Access | None) -> set[int]:
    """The statuses of the errors that a view may answer with."""
    known = access is not None and (access.keys or access.people)
    takes_body = bool(said.json or said.upload)
    statuses = {
        *((400,) if takes_body or said.query or said.headers else ()),
        *((429, 503) if access is not None else ()),
        *((401, 403) if known else ()),
        *((404,) if rule.arguments else ()),
        *((413, 415) if takes_body else ()),
        *said.refuses,
    }
    return statuses - set(said.answers)


class Generator(GenerateJsonSchema):
    """pydantic's, without a title for each field, and with all that it knows of a mapping's keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        found = super().dict_schema(schema)
        for pattern, values in found.pop("patternProperties", {}).items():
            found["additionalProperties"] = values
            found["propertyNames"] = found.get("propertyNames", {}) | {"pattern": pattern}
        return found


class Shapes:
    """The JSON Schemas of types: components, and how operations refer to them."""

    def __init__(self, types: Iterable[Any]) -> None:
        references, definitions = TypeAdapter.json_schemas(
            ((kind, "validation", TypeAdapter[Any](kind)) for kind in types),
            ref_template="#/components/schemas/{model}",
            schema_generator=Generator,
        )
        self._references = {kind: reference for (kind, _), reference in references.items()}
        self.components: Json = definitions["$defs"]

    def schema(self, kind: Any) -> Json:
        return self._references[kind]

    def upload(self, form: type[BaseModel]) -> Json:
        """The form with its file."""
        said = self.components[form.__name__]
        fields = {name: _without_null(field) for name, field in said["properties"].items()}
        said["properties"] = {"file": {"type": "string", "format": "binary"}} | fields
        said["required"] = ["file", *(name for name in said["required"] if name != "file")]
        return self.schema(form)
