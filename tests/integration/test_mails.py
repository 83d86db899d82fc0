"""Mails are written with the act that they tell of, by anybody, and can be read by the mailer alone."""

from typing import LiteralString

import psycopg
import pytest
from cryptography.fernet import InvalidToken
from psycopg import errors
from sqlalchemy import Connection

from common import mails
from common.database import as_account, as_owner
from common.errors import InvalidRequest
from common.ids import new_id
from tests.process_settings import process_settings

LINK = "https://example.com/verify?token=secret-of-a-link"


def test_a_mail_is_there_with_its_act_and_not_without(database: psycopg.Connection) -> None:
    with as_owner() as connection:
        mails.write(connection, "ada@example.com", "verify_email", {"link": LINK})
    with pytest.raises(ZeroDivisionError), as_owner() as connection:
        _write_and_fail(connection)
    rows = database.execute("SELECT recipient, template, state, attempts, sealed FROM mails").fetchall()
    assert [row[:4] for row in rows] == [("ada@example.com", "verify_email", "pending", 0)]
    filled = mails.unseal(rows[0][4])
    assert filled.subject == "Confirm your address"
    assert LINK in filled.plain


def _write_and_fail(connection: Connection) -> None:
    mails.write(connection, "eve@example.com", "verify_email", {"link": LINK})
    _ = 1 / 0


def test_the_web_writes_mails_and_reads_and_changes_none(
    database: psycopg.Connection, settings: dict[str, str]
) -> None:
    with as_account(new_id()) as connection:
        mails.write(connection, "ada@example.com", "password_changed")
    statements: tuple[LiteralString, ...] = (
        "SELECT recipient FROM mails",
        "SELECT count(*) FROM mails",
        "UPDATE mails SET attempts = 1",
        "DELETE FROM mails",
        "INSERT INTO mails (id, recipient, template, sealed) SELECT uuidv7(), recipient, template, sealed FROM mails",
        "INSERT INTO mails (id, recipient, template, state, ended_at) VALUES (uuidv7(), 'a@b', 'x', 'sent', now())",
    )
    with psycopg.connect(settings["WEB_DATABASE_URL"], autocommit=True) as web:
        for statement in statements:
            with pytest.raises(errors.InsufficientPrivilege):
                web.execute(statement)
    assert database.execute("SELECT count(*) FROM mails").fetchone() == (1,)


def test_the_database_holds_no_link_that_can_be_read(database: psycopg.Connection, settings: dict[str, str]) -> None:
    with as_owner() as connection:
        mails.write(connection, "ada@example.com", "reset_password", {"link": LINK})
    row = database.execute("SELECT m::text, sealed FROM mails m").fetchone()
    assert row is not None
    shown, sealed = row
    assert "secret-of-a-link" not in shown
    assert b"secret-of-a-link" not in sealed
    with process_settings(settings | {"SECRET_KEY": "x" * 32}), pytest.raises(InvalidToken):
        mails.unseal(sealed)


def test_what_is_no_address_gets_no_mail(database: psycopg.Connection) -> None:
    with as_owner() as connection:
        for to in ("ada", "ada@example.com\r\nBcc: eve@example.com", "\ud800@example.com", ""):
            with pytest.raises(InvalidRequest):
                mails.write(connection, to, "password_changed")
    assert database.execute("SELECT count(*) FROM mails").fetchone() == (0,)


IMPOSSIBLE: tuple[LiteralString, ...] = (
    "UPDATE mails SET state = 'lost'",
    "UPDATE mails SET state = 'sending'",
    "UPDATE mails SET state = 'sent', next_attempt_at = NULL, ended_at = now()",
    "UPDATE mails SET sealed = NULL",
    "UPDATE mails SET state = 'failed', next_attempt_at = NULL, ended_at = now(), sealed = NULL",
    "UPDATE mails SET deaths = 1",
    "UPDATE mails SET recipient = 'ada@example.com' || chr(10) || 'x'",
)


def test_the_database_refuses_mails_that_cannot_be(database: psycopg.Connection) -> None:
    with as_owner() as connection:
        mails.write(connection, "ada@example.com", "password_changed")
    for statement in IMPOSSIBLE:
        with pytest.raises(errors.CheckViolation):
            database.execute(statement)
