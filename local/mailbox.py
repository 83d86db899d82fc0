"""The mail server of a stack: it tells of each mail that comes, and keeps it as an .eml file in the home."""

import asyncio
import email
import email.policy
import re
import secrets
import threading
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from local.errors import StackError
from local.home import Home

HOST = "127.0.0.1"
USER = "batchyard"
FROM = "Batchyard <no-reply@localhost>"
MAX_MAIL_BYTES = 2**20

_LINK = re.compile(r"https?://\S+")
# As Batchyard makes them: a mail that comes twice is one file, and files are in the order of time.
_OUR_ID = re.compile(r"<([0-9a-f]{32})@[^<>]+>")


class Mailbox:
    """`folder` is where the mails are; `tell` gets a line for each, from a thread of the mailbox's own."""

    def __init__(self, home: Home, port: int, tell: Callable[[str], None]) -> None:
        self.folder = _folder(home)
        self._port = port
        self._password = _password(home)
        self._tell = tell
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mailbox", daemon=True)

    def start(self) -> None:
        """Returns when it takes mails. Raises StackError."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._thread.start()
        try:
            self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        except OSError as error:
            self._end_loop()
            raise StackError(f"the mailbox cannot listen on port {self._port}: {error.strerror}") from None

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._end_loop()

    async def _listen(self) -> asyncio.Server:
        return await self._loop.create_server(self._connection, HOST, self._port)

    def _connection(self) -> SMTP:
        return SMTP(
            self,
            loop=self._loop,
            hostname="localhost",
            data_size_limit=MAX_MAIL_BYTES,
            enable_SMTPUTF8=True,
            # A password that is right on this machine alone, sent on this machine alone.
            auth_require_tls=False,
            authenticator=self._authenticate,
        )

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: object
    ) -> AuthResult:
        right = isinstance(given, LoginPassword) and secrets.compare_digest(given.password, self._password.encode())
        return AuthResult(success=right, handled=False)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """What aiosmtpd calls with each mail."""
        content = envelope.original_content or b""
        mail = email.message_from_bytes(content, policy=email.policy.default)
        found = _OUR_ID.fullmatch(_message_id(mail))
        file = self.folder / f"{found[1] if found is not None else secrets.token_hex(16)}.eml"
        draft = file.with_suffix(".draft")
        draft.write_bytes(content)
        # Whoever looks for mails finds whole ones alone.
        draft.replace(file)
        self._tell(_printable(f"mail to {', '.join(envelope.rcpt_tos)}: {_read(mail)} ({file})"))
        return "250 kept"

    async def handle_exception(self, error: Exception) -> str:
        """What aiosmtpd calls where a mail was not kept, as on a full disk: its sender tries again later."""
        self._tell(f"a mail was not kept: {error}")
        return "451 not kept"

    async def _close(self) -> None:
        self._server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def settings(home: Home) -> dict[str, str]:
    """What sends mails to the mailbox of the home, and where they are then."""
    return {
        "MAIL_FROM": FROM,
        "SMTP_URL": f"smtp://{USER}:{_password(home)}@{HOST}:{home.port('mail')}",
        "MAIL_FOLDER": str(_folder(home)),
    }


def _folder(home: Home) -> Path:
    return home.path / "mails"


def _password(home: Home) -> str:
    return home.secret("mail_password")


def _message_id(mail: EmailMessage) -> str:
    """As it was sent: what is malformed is the end of the package's parser."""
    return next((str(value).strip() for name, value in mail.raw_items() if name.lower() == "message-id"), "")


def _read(mail: EmailMessage) -> str:
    """The mail's subject, with its link if it has one."""
    try:
        text = mail.get_body(("plain",))
        found = _LINK.search(str(text.get_content())) if text is not None else None
        return str(mail["Subject"]) + (f" {found[0]}" if found is not None else "")
    # Whatever the parser fails at, such as an unknown charset: the mail is kept, and only not shown.
    except Exception:
        return "a mail that cannot be read"


def _printable(line: str) -> str:
    """A terminal obeys some characters."""
    return "".join(character if character.isprintable() else "?" for character in line)
