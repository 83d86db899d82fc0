"""Mails: written in the transaction of the act that they tell of, and sent by the processes that deliver.

So there is never the one without the other, and a mail server that is away holds up nobody.
"""

from collections.abc import Mapping
from dataclasses import asdict

from sqlalchemy import Connection, text

from common import ids, json_text, mail_addresses, mail_texts
from common.mail_texts import Template, Text
from common.sealing import cipher

_PURPOSE = "mails"


def write(connection: Connection, to: str, template: Template, values: Mapping[str, str] | None = None) -> None:
    """Has the mail sent to the address once the transaction is committed, by the owner or the web's role. Raises
    InvalidRequest where it is no address, and KeyError where a value of the template is missing."""
    mail_addresses.check(to)
    filled = mail_texts.fill(template, values or {})
    connection.execute(_WRITE, {"id": ids.new_id(), "recipient": to, "template": template, "sealed": _seal(filled)})


def unseal(sealed: bytes) -> Text:
    """What the mail says. Raises cryptography.fernet.InvalidToken after another SECRET_KEY."""
    return Text(**json_text.loads(cipher(_PURPOSE).decrypt(sealed)))


def _seal(filled: Text) -> bytes:
    """Links in mails are as good as passwords."""
    return cipher(_PURPOSE).encrypt(json_text.dumps(asdict(filled)))


_WRITE = text("INSERT INTO mails (id, recipient, template, sealed) VALUES (:id, :recipient, :template, :sealed)")
