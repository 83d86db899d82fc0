"""What the local stack's mailbox has for somebody."""

import email
import email.policy
import re
from pathlib import Path

from local.stack import Stack
from tests.waiting import wait_for

LINK = re.compile(r"https?://\S+")


def link(stack: Stack, address: str, subject: str) -> str:
    """The link in the mail with this subject to an address, once it has come."""
    return wait_for(lambda: _links(stack, address, subject), bool)[-1]


def _links(stack: Stack, address: str, subject: str) -> list[str]:
    """Of all such mails, the newest last."""
    folder = Path(stack.env["MAIL_FOLDER"])
    kept = sorted(folder.glob("*.eml"), key=lambda file: file.stat().st_mtime_ns)
    mails = [email.message_from_bytes(file.read_bytes(), policy=email.policy.default) for file in kept]
    texts = [
        str(body.get_content())
        for mail in mails
        if mail["To"] == address and mail["Subject"] == subject and (body := mail.get_body(("plain",))) is not None
    ]
    return [found[0] for text in texts if (found := LINK.search(text)) is not None]
