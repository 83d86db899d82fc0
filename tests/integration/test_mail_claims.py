"""Each mail is one mailer's at a time, whatever dies, and is forgotten in the end."""

import psycopg

from tests.written_mails import row, write
from worker import mail_claims, mail_records
from worker.mail_claims import MAX_DEATHS, ClaimedMail
from worker.mail_sender import MailAttempt


def took(mail: ClaimedMail) -> MailAttempt:
    return MailAttempt(mail, None, answer="250 OK")


def test_a_stale_mailer_can_write_nothing(database: psycopg.Connection, settings: dict[str, str]) -> None:
    write("ada@example.com")
    (stale,) = mail_claims.take(1)
    assert mail_claims.take(1) == []
    database.execute("UPDATE mails SET lease_until = now()")
    mail_claims.mend()
    (current,) = mail_claims.take(1)
    mail_records.record(took(stale))
    found = row(database, "ada@example.com")
    assert (found["state"], found["attempts"], found["deaths"]) == ("sending", 2, 1)
    mail_records.record(took(current))
    mail_records.record(MailAttempt(current, "timed_out"))
    assert row(database, "ada@example.com")["state"] == "sent"


def test_a_mail_whose_process_dies_again_and_again_has_failed(
    database: psycopg.Connection, settings: dict[str, str]
) -> None:
    write("ada@example.com")
    for _ in range(MAX_DEATHS):
        assert len(mail_claims.take(1)) == 1
        database.execute("UPDATE mails SET lease_until = now()")
        mail_claims.mend()
    found = row(database, "ada@example.com")
    assert (found["state"], found["failure"], found["sealed"]) == ("failed", "process_died", None)


def test_mailers_that_claim_at_once_take_nothing_twice(database: psycopg.Connection, settings: dict[str, str]) -> None:
    for number in range(10):
        write(f"{number}@example.com")
    with psycopg.connect(settings["DATABASE_URL"]) as other:
        other.execute("SELECT id FROM mails ORDER BY next_attempt_at LIMIT 4 FOR UPDATE")
        taken = [*mail_claims.take(4), *mail_claims.take(4)]
        other.rollback()
    taken += mail_claims.take(10)
    assert sorted(mail.recipient for mail in taken) == [f"{number}@example.com" for number in range(10)]


def test_what_became_of_a_mail_is_kept_for_a_week(database: psycopg.Connection, settings: dict[str, str]) -> None:
    for to in ("old@example.com", "new@example.com", "open@example.com"):
        write(to)
    for mail in mail_claims.take(2):
        mail_records.record(took(mail))
    database.execute(
        "UPDATE mails SET ended_at = ended_at - interval '7 days 1 second' WHERE recipient = 'old@example.com'"
    )
    database.execute("UPDATE mails SET created_at = now() - interval '9 days' WHERE recipient = 'open@example.com'")
    mail_claims.mend()
    kept = database.execute("SELECT recipient FROM mails ORDER BY recipient").fetchall()
    assert kept == [("new@example.com",), ("open@example.com",)]
