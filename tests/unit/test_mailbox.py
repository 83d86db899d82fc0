"""The mail server of the local stack: real mails to it, as any program sends them."""

import smtplib
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from common.mail_server import read_sender, read_url
from local import mailbox
from local.errors import StackError
from local.home import Home
from local.mailbox import Mailbox

ID = "0" * 31 + "a"


class Running:
    def __init__(self, home: Home) -> None:
        self.told: list[str] = []
        self.settings = mailbox.settings(home)
        url = urlsplit(self.settings["SMTP_URL"])
        assert url.port is not None
        self.port = url.port
        self.password = unquote(url.password or "")
        self.mailbox = Mailbox(home, self.port, self.told.append)
        self.mailbox.start()

    def send(self, mail: EmailMessage, password: str | None = None) -> None:
        with smtplib.SMTP("127.0.0.1", self.port, timeout=10) as client:
            client.login(mailbox.USER, self.password if password is None else password)
            client.send_message(mail)

    @property
    def kept(self) -> list[Path]:
        return sorted(Path(self.settings["MAIL_FOLDER"]).iterdir())


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    started = Running(Home(tmp_path / "home"))
    yield started
    started.mailbox.stop()


def mail(
    message_id: str = f"<{ID}@localhost>", text: str = "Follow this:\n\nhttps://example.com/x?a=1\n"
) -> EmailMessage:
    made = EmailMessage()
    made["From"] = mailbox.FROM
    made["To"] = "ada@example.com"
    made["Subject"] = "Confirm your address"
    made["Message-ID"] = message_id
    made.set_content(text)
    return made


def test_each_mail_is_told_of_and_kept(running: Running) -> None:
    running.send(mail())
    (file,) = running.kept
    assert file.name == f"{ID}.eml"
    assert b"https://example.com/x?a=1" in file.read_bytes()
    assert running.told == [f"mail to ada@example.com: Confirm your address https://example.com/x?a=1 ({file})"]


def test_a_mail_that_comes_again_is_one_file_and_a_strangers_is_another(running: Running) -> None:
    for message_id in (f"<{ID}@localhost>", f"<{ID}@localhost>", "<../../escape@localhost>"):
        running.send(mail(message_id, "Nothing to follow.\n"))
    assert len(running.kept) == 2
    assert all(file.parent == Path(running.settings["MAIL_FOLDER"]) for file in running.kept)
    assert running.told[0].startswith("mail to ada@example.com: Confirm your address (")


@pytest.mark.parametrize(
    "content",
    [
        b"Message-ID: <\r\n\r\nx",
        b"Message-ID: <a@[\r\n\r\nx",
        b"Content-Type: text/plain; charset=unknown\r\n\r\nx",
        b"Subject: =?utf-8?q?a=1b[2Jb=0Ac?=\r\n\r\nx",
        b"\r\n",
    ],
)
def test_any_mail_is_kept_and_told_of_in_one_line_that_a_terminal_obeys_nothing_of(
    running: Running, content: bytes
) -> None:
    with smtplib.SMTP("127.0.0.1", running.port, timeout=10) as client:
        client.login(mailbox.USER, running.password)
        assert client.sendmail("eve@example.com", ["ada@example.com"], content) == {}
    assert len(running.kept) == 1
    (told,) = running.told
    assert told.isprintable()


def test_a_mail_that_cannot_be_kept_is_one_to_send_again(running: Running) -> None:
    Path(running.settings["MAIL_FOLDER"]).rmdir()
    with pytest.raises(smtplib.SMTPDataError) as refused:
        running.send(mail())
    assert refused.value.smtp_code == 451
    (told,) = running.told
    assert told.startswith("a mail was not kept: ")


def test_a_wrong_password_is_refused(running: Running) -> None:
    with pytest.raises(smtplib.SMTPAuthenticationError):
        running.send(mail(), "wrong")
    assert running.kept == []


def test_its_settings_are_good_ones(running: Running) -> None:
    read = read_url(running.settings["SMTP_URL"])
    assert (read.host, read.port, read.user, read.password) == (
        "127.0.0.1",
        running.port,
        "batchyard",
        running.password,
    )
    assert read_sender(running.settings["MAIL_FROM"]) == ("Batchyard", "no-reply@localhost")


def test_a_port_that_is_taken_is_named(running: Running, tmp_path: Path) -> None:
    with pytest.raises(StackError, match=str(running.port)):
        Mailbox(Home(tmp_path / "other"), running.port, running.told.append).start()
