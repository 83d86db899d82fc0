"""/v1/limits: what applies to this key now, what is left of it, and when that changes."""

from flask import Blueprint, Response, jsonify

from common import limits
from web import account_render, account_schemas, rate_limits
from web.auth import caller, requires
from web.documented import documented

blueprint = Blueprint("limits", __name__, url_prefix="/limits")


@blueprint.get("")
@requires("usage")
@documented("Get what applies to this key", {200: account_schemas.Limits})
def get() -> Response:
    return jsonify(account_render.limits(caller(), limits.taken(caller()), rate_limits.left()))
