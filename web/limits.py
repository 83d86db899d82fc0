"""/v1/limits: what applies to this key now, what is left of it, and when that changes."""

from flask import Blueprint, Response, jsonify

from common import limits
from web import render
from web.auth import caller, requires

blueprint = Blueprint("limits", __name__, url_prefix="/limits")


@blueprint.get("")
@requires("usage")
def get() -> Response:
    return jsonify(render.limits(caller(), limits.taken(caller())))
