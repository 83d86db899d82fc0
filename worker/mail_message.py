"""A mail as it goes over the wire."""

from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP

from common.mail_texts import Text
from worker.mail_claims import ClaimedMail


def message(mail: ClaimedMail, text: Text, sender: tuple[str, str]) -> EmailMessage:
    """The mail from `sender`, its name and address. Whenever it is made it is the same, so that a reader to whom it is
    sent twice may know it by its Message-ID. Raises ValueError for an address that cannot be written."""
    name, address = sender
    made = EmailMessage(policy=SMTP)
    made["From"] = _address(address, name)
    made["To"] = _address(mail.recipient)
    made["Subject"] = text.subject
    made["Date"] = mail.written_at
    made["Message-ID"] = f"<{mail.id.hex}@{_address(address).domain}>"
    # RFC 3834: so that nobody's absence is told to a machine.
    made["Auto-Submitted"] = "auto-generated"
    made.set_content(text.plain)
    made.add_alternative(text.html, subtype="html")
    return made


def _address(text: str, name: str = "") -> Address:
    """With a domain that every mail server can read; before the @ only those of RFC 6531 read all letters."""
    local, _, domain = text.rpartition("@")
    return Address(name, local, domain if domain.isascii() else domain.encode("idna").decode())
