"""What schemathesis, in its own process, has to know beyond the document: see test_openapi_cases.py."""

import os
from typing import Any

import schemathesis
from hypothesis import strategies as st

# The columns that templates made by chance will hardly name, and rows that are there or not.
SPARED = set(os.environ["SPARED_IDS"].split(","))
HEADER = b"review,product\r\n"
CELLS = st.text('abc é\n",;', max_size=10).map(lambda text: '"' + text.replace('"', '""') + '"')
UPLOAD_FIELDS = {"file", "purpose", "expires_after", "expires_after[anchor]", "expires_after[seconds]"}
# Those of a batch's form that may be any text.
TEXT_FIELDS = ("model", "prompt", "system")
ROWS = st.lists(st.tuples(CELLS, CELLS).map(",".join), max_size=5)

schemathesis.openapi.media_type("text/csv", ROWS.map(lambda rows: HEADER + "\r\n".join(rows).encode()))


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, document: dict[str, Any]) -> None:
    """Answers may have no field that is not documented. The document does not say so: one that is added later breaks no
    client."""
    for schema in document["components"]["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case[Any]) -> bool:
    """Leaves out what would end the keys that all requests are sent with; forms whose file is any or whose other fields
    are empty, as in some of its phases schemathesis calls those valid; uploads that are as they should be, as it
    calls one in some thousands of them invalid; and forms of a batch that it calls invalid for a text that it made of
    something else, since on its way a form's field is text whatever it was made of."""
    if case.method != "GET" and SPARED & {str(value) for value in case.path_parameters.values()}:
        return False
    fields = case.body if isinstance(case.body, dict) else {}
    if case.meta is not None and case.meta.generation.mode.is_negative and (_is_upload(fields) or _has_text_of(fields)):
        return False
    if case.meta is None or case.meta.generation.mode.is_negative or not {"file", "model"} <= fields.keys():
        return True
    file = getattr(fields["file"], "data", fields["file"])
    return fields["model"] != "" and isinstance(file, bytes) and file.startswith(HEADER)


def _has_text_of(fields: dict[str, Any]) -> bool:
    return "file" in fields and any(not isinstance(fields.get(name, ""), str) for name in TEXT_FIELDS)


def _is_upload(fields: dict[str, Any]) -> bool:
    """Whether a form is one of POST /v1/files with nothing wrong but, at most, when the file is to expire."""
    file = getattr(fields.get("file"), "data", fields.get("file"))
    return isinstance(file, bytes) and fields.get("purpose") == "batch" and fields.keys() <= UPLOAD_FIELDS
