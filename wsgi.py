"""The web app object for gunicorn and the flask command."""

from web.app import create_app

app = create_app()
