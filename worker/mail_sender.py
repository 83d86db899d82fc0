"""One attempt at a mail: over a connection of its own to the operator's mail server, and what came of it, by name."""

import asyncio
import logging
import ssl
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage

import aiosmtplib
from aiosmtplib import (
    SMTPAuthenticationError,
    SMTPConnectError,
    SMTPDataError,
    SMTPException,
    SMTPNotSupported,
    SMTPRecipientsRefused,
    SMTPResponseException,
    SMTPSenderRefused,
    SMTPServerDisconnected,
)

from common import mail_server
from common.mail_server import MailServer
from common.settings import settings
from worker.mail_claims import ClaimedMail
from worker.mail_message import message

log = logging.getLogger(__name__)

ATTEMPT_SECONDS = 60.0
# For a good-bye: by then the mail is taken.
QUIT_SECONDS = 2.0
KEPT_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class MailAttempt:
    """What came of it. `failure` is None when the server took the mail; `for_good` says that it will never take it, and
    `answer` is what it said."""

    mail: ClaimedMail
    failure: str | None
    for_good: bool = False
    answer: str | None = None


async def send(mail: ClaimedMail) -> MailAttempt:
    """Never raises but for a cancellation."""
    try:
        failure, for_good, answer = await _send(mail)
    # Whatever it is: an attempt that is never recorded would be taken for one whose process died.
    except Exception:
        log.exception("a mail could not be attempted")
        failure, for_good, answer = "not_attempted", False, None
    if failure is not None:
        # Without the recipient: logs are read by more people than addresses are meant for.
        log.warning("a mail was not taken", extra={"mail": str(mail.id), "kind": mail.template, "failure": failure})
    return MailAttempt(mail, failure, for_good, _readable(answer))


Outcome = tuple[str | None, bool, str | None]


async def _send(mail: ClaimedMail) -> Outcome:
    url, sender = settings().smtp_url, settings().mail_from
    if mail.text is None:
        return "unreadable", True, None
    if url is None or sender is None:
        return "no_mail_server", False, None
    try:
        made = message(mail, mail.text, mail_server.read_sender(sender))
    except ValueError as error:
        return "recipient_refused", True, str(error)
    return await _transmit(mail_server.read_url(url), made)


async def _transmit(server: MailServer, made: EmailMessage) -> Outcome:
    client = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        use_tls=server.tls,
        start_tls=server.starttls,
        username=server.user,
        password=server.password,
        # The whole attempt has its time.
        timeout=None,
    )
    try:
        async with asyncio.timeout(ATTEMPT_SECONDS):
            await client.connect()
            _, answer = await client.send_message(made)
    except TimeoutError:
        return "timed_out", False, None
    except (SMTPException, OSError) as error:
        return _judge(error)
    else:
        # The server has the mail now, whatever becomes of the connection.
        with suppress(SMTPException, OSError):
            await client.quit(timeout=QUIT_SECONDS)
        return None, False, answer
    finally:
        client.close()


def _judge(error: SMTPException | OSError) -> Outcome:
    """The failure by its name, and whether another attempt is of no use: after a 5xx about this mail, its recipient or
    its content. One about the connection, the login or the sender, who is that of all mails, is the operator's to mend,
    and the mail waits."""
    match error:
        case SMTPRecipientsRefused(recipients=[refused, *_]):
            return ("recipient_refused" if refused.code >= 500 else "put_off"), refused.code >= 500, _said(refused)
        case SMTPNotSupported():
            return "recipient_refused", True, error.message
        case SMTPAuthenticationError():
            return "login_refused", False, _said(error)
        case SMTPConnectError():
            return ("tls_failed" if _is_tls(error) else "connection_failed"), False, error.message
        case SMTPServerDisconnected():
            return "connection_lost", False, error.message
        case SMTPResponseException() if error.code < 500:
            return "put_off", False, _said(error)
        case SMTPDataError():
            return "refused", True, _said(error)
        case SMTPSenderRefused():
            return "sender_refused", False, _said(error)
        case SMTPResponseException():
            return "connection_failed", False, _said(error)
        case SMTPException():
            return "not_supported", False, error.message
        case _:
            return ("tls_failed" if _is_tls(error) else "connection_lost"), False, str(error)


def _is_tls(error: BaseException) -> bool:
    return isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError)


def _said(error: SMTPResponseException) -> str:
    return f"{error.code} {error.message}"


def _readable(answer: str | None) -> str | None:
    """What a mail server said, as text that can be stored."""
    if answer is None:
        return None
    return "".join(character if character.isprintable() else " " for character in answer)[:KEPT_CHARACTERS]
