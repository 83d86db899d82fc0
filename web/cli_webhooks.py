"""For who builds a receiver of webhooks: `flask --app wsgi webhooks listen` is one, which prints and verifies."""

import hmac
import json
import time
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import click
from flask.cli import AppGroup

from common import json_text, webhook_secrets

MAX_BODY_BYTES = 1_048_576
# As Standard Webhooks' libraries have it.
TOLERANCE_SECONDS = 300

webhooks_group = AppGroup("webhooks", help="Receive webhooks on this machine.")


@webhooks_group.command("listen")
@click.option("--port", type=click.IntRange(0, 65_535), required=True, help="0 takes one that is free.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    required=True,
    envvar="WEBHOOK_SECRET",
    help="whsec_..., of the endpoint or the account; several while one is rotated. Or the variable WEBHOOK_SECRET.",
)
def listen(port: int, host: str, secrets: tuple[str, ...]) -> None:
    """Print each webhook that arrives, until Ctrl-C. What verifies is answered with 204, and all else with 400."""
    _check(secrets)
    try:
        server = ThreadingHTTPServer((host, port), _receiver(secrets))
    except OSError as error:
        raise click.ClickException(f"{host}:{port} cannot be listened on: {error.strerror}.") from None
    with server:
        click.echo(f"listening on http://{host}:{server.server_port}")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo()


def _check(secrets: Sequence[str]) -> None:
    """Raises ClickException for what is no secret, which it does not repeat."""
    for secret in secrets:
        try:
            webhook_secrets.signatures([secret], "", 0, b"")
        except ValueError:
            known = False
        else:
            known = secret.startswith(webhook_secrets.PREFIX)
        if not known:
            raise click.ClickException(f"A secret is {webhook_secrets.PREFIX} and base64, as it was shown when made.")


def _receiver(secrets: Sequence[str]) -> type[BaseHTTPRequestHandler]:
    class Receiver(BaseHTTPRequestHandler):
        """Prints what is posted to any path."""

        # A sender that stops in the middle holds a thread no longer than this.
        timeout = 10

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not _is_number(length):
                self.send_error(411)
                return
            if int(length) > MAX_BODY_BYTES:
                self.send_error(413)
                return
            body = self.rfile.read(int(length))
            problem = problem_of(secrets, dict(self.headers.items()), body, time.time())
            # One write for each, as several may arrive at once.
            click.echo("\n".join((time.strftime("%H:%M:%S ") + self._verdict(problem), shown(body))))
            self.send_response(204 if problem is None else 400)
            self.end_headers()

        def _verdict(self, problem: str | None) -> str:
            name = ascii(self.headers.get("webhook-id", ""))[1:-1]
            return f"verified {name}" if problem is None else f"NOT VERIFIED {name}: {problem}"

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: what arrives is printed above."""

    return Receiver


def problem_of(secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: float) -> str | None:
    """Why a webhook does not verify, or None."""
    lower = {name.lower(): value for name, value in headers.items()}
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        if not lower.get(name):
            return f"there is no header {name}"
    timestamp = lower["webhook-timestamp"]
    if not _is_number(timestamp):
        return "webhook-timestamp is not in Unix seconds"
    if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        return f"webhook-timestamp is over {TOLERANCE_SECONDS} s off this machine's clock"
    expected = webhook_secrets.signatures(secrets, lower["webhook-id"], int(timestamp), body).split()
    sent = lower["webhook-signature"].encode(errors="replace").split()
    if not any(hmac.compare_digest(one.encode(), other) for one in expected for other in sent):
        return "no signature is that of a secret given here"
    return None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 12


def shown(body: bytes) -> str:
    """The body with nothing in it that a terminal would act on."""
    try:
        return json.dumps(json_text.loads(body), indent=2)
    except ValueError:
        return ascii(body)[2:-1]
