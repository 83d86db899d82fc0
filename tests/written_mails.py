"""Mails as tests write them, and what has become of them."""

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.rows import dict_row

from common import mails
from common.database import as_owner
from common.mail_texts import Template

LINK = "https://batchyard.example.com/verify?token=" + "abc=DEF" * 20


def write(to: str, template: Template = "verify_email", values: Mapping[str, str] | None = None) -> None:
    with as_owner() as connection:
        mails.write(connection, to, template, {"link": LINK} if values is None else values)


def row(database: psycopg.Connection, to: str) -> dict[str, Any]:
    """The one mail to somebody, with the seconds until its next attempt."""
    query = "SELECT *, extract(epoch FROM next_attempt_at - now())::float AS due_in FROM mails WHERE recipient = %s"
    (found,) = database.cursor(row_factory=dict_row).execute(query, [to]).fetchall()
    return found
