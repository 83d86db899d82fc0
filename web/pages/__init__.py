"""The pages: what people see in a browser. Each is made here whole, and runs no script."""

from flask import Blueprint, Flask, Response

from web.pages import (
    accept_invitation,
    account_settings,
    api_keys,
    assets,
    billing,
    email,
    failures,
    frame,
    log_in,
    mail_sent,
    members,
    note,
    overview,
    password,
    sign_up,
    usage,
    visitor,
)

VIEWS = (
    overview,
    sign_up,
    log_in,
    password,
    email,
    mail_sent,
    accept_invitation,
    api_keys,
    usage,
    billing,
    members,
    account_settings,
)


def init_app(app: Flask) -> None:
    """Gives the app its pages."""
    pages = Blueprint("pages", __name__, template_folder="../templates")
    pages.before_request(visitor.receive)
    for view in VIEWS:
        pages.register_blueprint(view.blueprint)
    app.register_blueprint(pages)
    app.register_blueprint(assets.blueprint)
    frame.init_app(app)
    app.after_request(_finish)


def _finish(response: Response) -> Response:
    if failures.is_page():
        failures.finish(response)
        visitor.keep_new(response)
        note.clear(response)
    return response
