"""`flask --app wsgi doctor`: mails that could not be sent, or wait, are named, and no others."""

import psycopg
import pytest

from common import mails
from common.database import as_owner
from tests.web_client import WebClient
from worker import mail_claims, mail_records
from worker.mail_sender import MailAttempt


def found_by_doctor(web: WebClient) -> list[str]:
    result = web.app.test_cli_runner().invoke(args=["doctor"])
    *found, last = result.output.splitlines()
    assert last.startswith("checked "), result.output
    assert result.exit_code == bool(found), result.output
    return found


def write(*people: str) -> None:
    with as_owner() as connection:
        for to in people:
            mails.write(connection, to, "password_changed")


def end(failure: str | None, answer: str | None = None) -> None:
    """What is to be sent comes to this end."""
    for mail in mail_claims.take(10):
        mail_records.record(MailAttempt(mail, failure, for_good=True, answer=answer))


def test_mails_on_their_way_sent_or_to_nobody_are_in_order(web: WebClient, database: psycopg.Connection) -> None:
    write("sent@example.com")
    end(None)
    write("nobody@example.com")
    end("recipient_refused", "550 no such user")
    write("new@example.com", "sending@example.com")
    mail_claims.take(1)
    database.execute("UPDATE mails SET created_at = now() - interval '59 minutes'")
    assert found_by_doctor(web) == []


def test_mails_that_failed_are_named_by_what_went_wrong(web: WebClient) -> None:
    write("a@example.com", "b@example.com")
    end("refused", "554 5.7.1 your domain is unknown here")
    write("c@example.com")
    end("process_died")
    (died, refused) = found_by_doctor(web)
    assert died.startswith("mails: process_died: 1 failed, the last one (password_changed) at ")
    assert refused.startswith("mails: refused: 2 failed, ")
    assert refused.endswith("; the mail server said: 554 5.7.1 your domain is unknown here")
    assert "@example.com" not in died + refused


@pytest.mark.parametrize("attempted", [False, True])
def test_mails_that_wait_for_an_hour_are_named_with_what_they_wait_for(
    web: WebClient, database: psycopg.Connection, attempted: bool
) -> None:
    write("a@example.com", "b@example.com")
    if attempted:
        (mail,) = mail_claims.take(1)
        mail_records.record(MailAttempt(mail, "login_refused", answer="535 no"))
    database.execute("UPDATE mails SET created_at = now() - interval '61 minutes'")
    (found,) = found_by_doctor(web)
    why = "the last attempt: login_refused: 535 no" if attempted else "none was attempted: nobody runs `deliveries`"
    assert found == f"mails: password_changed: 2 wait for over 60 minutes; {why}"
