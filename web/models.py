"""/v1/models: what customers may ask for."""

from flask import Blueprint, Response, jsonify

from common import models
from common.errors import PermissionDenied
from web import render, schemas
from web.auth import caller, requires
from web.documented import documented

blueprint = Blueprint("models", __name__, url_prefix="/models")


@blueprint.get("")
@requires("jobs")
@documented("List models", {200: schemas.Models})
def list_models() -> Response:
    return jsonify({"object": "list", "data": [render.model(model) for model in models.list_all(caller().limits)]})


@blueprint.get("/<path:model_id>")
@requires("jobs")
@documented("Get a model", {200: schemas.Model})
def get(model_id: str) -> Response:
    return jsonify(render.model(models.get(caller().limits, model_id)))


@blueprint.delete("/<path:model_id>")
@requires("jobs")
@documented("Delete a model", {})
def delete(model_id: str) -> Response:
    """Always refused: the models are the provider's."""
    models.get(caller().limits, model_id)
    raise PermissionDenied("The models are the provider's: they cannot be deleted here.", param="model")
