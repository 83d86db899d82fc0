"""What is sent, how, and what is made of every kind of mail server: real servers, real connections."""

import email.utils
import logging
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests import mail_servers
from tests.certificates import Certificates
from tests.mail_servers import USER, Answer, MailServer
from tests.process_settings import process_settings
from tests.waiting import wait_for
from tests.written_mails import LINK, row, write
from worker import mail_sender
from worker.mailer import Mailer

FROM = "The Batchyard of Tests <no-reply@mail.example.com>"
HANGING_SECONDS = 2.0
LOGIN = f"{USER}:a%2Fb%23c%3Fd%40e@"


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_servers.running() as running:
        yield running


@pytest.fixture
def env(env: dict[str, str], server: MailServer) -> dict[str, str]:
    return env | {"SMTP_URL": server.url(), "MAIL_FROM": FROM}


@pytest.fixture
def mailer(settings: dict[str, str]) -> Iterator[Mailer]:
    """A mailer in the test's own process."""
    running = Mailer()
    yield running
    running.drain()


def attempted(database: psycopg.Connection, to: str, attempts: int = 1) -> dict[str, Any]:
    """The mail once so many attempts are recorded and none is under way."""
    return wait_for(
        lambda: row(database, to), lambda found: found["attempts"] >= attempts and found["state"] != "sending"
    )


def due_now(database: psycopg.Connection) -> None:
    """As if the time until the next attempt had passed."""
    database.execute("UPDATE mails SET next_attempt_at = now() WHERE state = 'pending'")


def test_a_mail_arrives_whole_and_is_then_forgotten(
    database: psycopg.Connection, server: MailServer, mailer: Mailer
) -> None:
    write("ada@example.com")
    (mail,) = server.wait_for("ada@example.com")
    found = attempted(database, "ada@example.com")
    assert (found["state"], found["failure"], found["sealed"]) == ("sent", None, None)
    assert mail["From"] == FROM
    assert mail["To"] == "ada@example.com"
    assert mail["Subject"] == "Confirm your address"
    assert mail["Message-ID"] == f"<{found['id'].hex}@mail.example.com>"
    assert mail["Auto-Submitted"] == "auto-generated"
    sent_at = email.utils.parsedate_to_datetime(mail["Date"])
    assert sent_at == found["created_at"].replace(microsecond=0)
    for kind in ("plain", "html"):
        part = mail.get_body((kind,))
        assert part is not None
        assert LINK in part.get_content()


def test_each_mail_has_one_recipient_who_sees_no_other(
    database: psycopg.Connection, server: MailServer, mailer: Mailer
) -> None:
    people = [f"person{number}@example.com" for number in range(20)]
    for to in people:
        write(to)
    for to in people:
        (mail,) = server.wait_for(to)
        assert "\n".join(mail.as_string().split()).count("@example.com") == 1
        assert mail["To"] == to


def test_letters_of_all_languages_arrive(database: psycopg.Connection, server: MailServer, mailer: Mailer) -> None:
    values = {"link": LINK, "account": "Zoë & Søn 公司 😀", "role": "owner", "invited_by": "jörg@bücher.example"}
    write("ada@bücher.example", "invitation", values)
    write("jörg@bücher.example", "invitation", values)
    for to in ("ada@xn--bcher-kva.example", "jörg@xn--bcher-kva.example"):
        (mail,) = server.wait_for(to)
        part = mail.get_body(("plain",))
        assert part is not None
        assert "Zoë & Søn 公司 😀" in part.get_content()
        assert "jörg@bücher.example" in part.get_content()


# What the mail server does: the failure, the state, and between which seconds the next attempt is due.
MATRIX: dict[str, tuple[Answer, str | None, str, tuple[float, float] | None]] = {
    "taken": (Answer("taken", "250 OK"), None, "sent", None),
    "no such user": (Answer("named", "550 5.1.1 no such user"), "recipient_refused", "failed", None),
    "greylisted": (Answer("named", "451 4.7.1 later"), "put_off", "pending", (4, 5.6)),
    "refused before the content": (Answer("asked", "554 no"), "refused", "failed", None),
    "refused for the content": (Answer("taken", "554 5.7.1 spam"), "refused", "failed", None),
    "full": (Answer("taken", "452 4.3.1 full"), "put_off", "pending", (4, 5.6)),
    "closing": (Answer("named", "421 closing"), "put_off", "pending", (4, 5.6)),
    "nonsense": (Answer("named", "\u00fc\x00 hello"), "put_off", "pending", (4, 5.6)),
    "hangs at the recipient": (Answer("named", "hang"), "timed_out", "pending", (4, 5.6)),
    "hangs in the content": (Answer("asked", "hang"), "timed_out", "pending", (4, 5.6)),
    "hangs with the mail": (Answer("taken", "hang"), "timed_out", "pending", (4, 5.6)),
    "dies at the recipient": (Answer("named", "reset"), "connection_lost", "pending", (4, 5.6)),
    "dies in the content": (Answer("asked", "reset"), "connection_lost", "pending", (4, 5.6)),
    "dies with the mail": (Answer("taken", "reset"), "connection_lost", "pending", (4, 5.6)),
}


def test_every_kind_of_mail_server_has_its_named_outcome_and_its_next_time(
    database: psycopg.Connection, server: MailServer, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail_sender, "ATTEMPT_SECONDS", HANGING_SECONDS)
    people = {name: f"{name.replace(' ', '-')}@example.com" for name in MATRIX}
    for name, (answer, *_) in MATRIX.items():
        server.answers[people[name]] = [answer]
        write(people[name])
    running = Mailer()
    first: dict[str, dict[str, Any]] = {}

    def look() -> list[str]:
        for name in MATRIX.keys() - first.keys():
            found = row(database, people[name])
            if found["attempts"] == 1 and found["state"] != "sending":
                first[name] = found
        return sorted(MATRIX.keys() - first.keys())

    wait_for(look, lambda missing: not missing)
    running.drain()
    for name, (_, failure, state, due) in MATRIX.items():
        found = first[name]
        assert (found["failure"], found["state"]) == (failure, state), name
        assert (found["sealed"] is None) == (state != "pending"), name
        if due is not None:
            assert due[0] <= found["due_in"] <= due[1], name
    assert first["no such user"]["answer"] == "550 5.1.1 no such user"
    # What had it and could not say so has it again later, under the same Message-ID.
    assert len(server.of(people["dies with the mail"])) == 1


def test_a_mail_that_was_put_off_arrives_with_a_later_attempt_under_the_same_id(
    database: psycopg.Connection, server: MailServer, mailer: Mailer
) -> None:
    put_off = Answer("taken", "reset")
    server.answers["ada@example.com"] = [put_off, Answer("named", "451 later"), mail_servers.FINE]
    write("ada@example.com")
    for attempts in (1, 2):
        attempted(database, "ada@example.com", attempts)
        due_now(database)
    found = attempted(database, "ada@example.com", 3)
    assert found["state"] == "sent"
    first, second = server.of("ada@example.com")
    assert first["Message-ID"] == second["Message-ID"]
    assert first["Date"] == second["Date"]


def test_attempts_go_on_over_a_day_and_then_it_has_failed(
    database: psycopg.Connection, server: MailServer, mailer: Mailer
) -> None:
    server.answers["ada@example.com"] = [Answer("taken", "451 later")]
    write("ada@example.com")
    delays = []
    for attempts in range(1, 8):
        due_now(database)
        delays.append(attempted(database, "ada@example.com", attempts)["due_in"])
    for due_in, least in zip(delays, (5, 30, 120, 600, 1_800, 3_600, 3_600), strict=True):
        assert least - 2 < due_in < least * 1.1
    database.execute("UPDATE mails SET created_at = now() - interval '23 hours 1 minute'")
    due_now(database)
    found = attempted(database, "ada@example.com", 8)
    assert (found["state"], found["failure"], found["sealed"]) == ("failed", "put_off", None)


def test_tls_is_spoken_with_whom_the_url_names_and_with_nobody_else(
    database: psycopg.Connection,
    settings: dict[str, str],
    server: MailServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    certificates = Certificates(tmp_path)
    # As an operator names a certificate authority of their own.
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority_file))
    good = certificates.server("localhost")
    other, expired = certificates.server("example.com"), certificates.server("localhost", expired=True)
    unknown = Certificates(tmp_path / "unknown").server("localhost")
    required = "?starttls=1"
    with (
        mail_servers.running(tls=good) as over_tls,
        mail_servers.running(starttls=good) as upgraded,
        mail_servers.running(tls=other) as of_another,
        mail_servers.running(starttls=expired) as outdated,
        mail_servers.running(tls=unknown) as unheard_of,
        mail_servers.silent() as silent,
    ):
        expected = {
            over_tls.url("smtps", "localhost", LOGIN): None,
            upgraded.url("smtp", "localhost", LOGIN, required): None,
            of_another.url("smtps", "localhost", LOGIN): "tls_failed",
            outdated.url("smtp", "localhost", LOGIN, required): "tls_failed",
            unheard_of.url("smtps", "localhost", LOGIN): "tls_failed",
            # Whoever stands between us and the server would leave its offer out.
            server.url("smtp", "localhost", LOGIN, required): "not_supported",
            f"smtp://127.0.0.1:{silent}": "timed_out",
            "smtp://127.0.0.1:1": "connection_failed",
            "smtp://nowhere.invalid": "connection_failed",
        }
        monkeypatch.setattr(mail_sender, "ATTEMPT_SECONDS", HANGING_SECONDS)
        for number, (url, failure) in enumerate(expected.items()):
            with process_settings(settings | {"SMTP_URL": url}):
                write(f"{number}@example.com")
                running = Mailer()
                found = attempted(database, f"{number}@example.com")
                running.drain()
                assert found["failure"] == failure, url
                assert found["state"] == ("pending" if failure else "sent"), url
        for untrusted in (of_another, outdated, unheard_of, server):
            assert (untrusted.logins, untrusted.took) == ([], [])


def test_a_login_is_checked_and_a_wrong_one_waits_for_its_operator(
    database: psycopg.Connection, settings: dict[str, str], server: MailServer
) -> None:
    for number, (login, failure) in enumerate({LOGIN: None, f"{USER}:wrong@": "login_refused"}.items()):
        with process_settings(settings | {"SMTP_URL": server.url(login=login)}):
            write(f"{number}@example.com")
            running = Mailer()
            found = attempted(database, f"{number}@example.com")
            running.drain()
            assert (found["failure"], found["state"]) == (failure, "pending" if failure else "sent")
    assert set(server.logins) == {USER}


# A command that is answered before the mail is looked at, with what, and the failure.
TURNED_AWAY = {
    ("EHLO", "554 5.7.1 you are on a list"): "connection_failed",
    ("STARTTLS", "502 5.5.1 not today"): "connection_failed",
    ("MAIL", "530 5.7.0 Authentication required"): "sender_refused",
    ("MAIL", "553 5.7.1 not your sender"): "sender_refused",
    ("MAIL", "451 4.3.0 later"): "put_off",
}


def test_a_mail_waits_while_its_server_refuses_all_mails_of_ours(
    database: psycopg.Connection, settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = Certificates(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority_file))
    with mail_servers.running(starttls=certificates.server("localhost")) as server:
        url = server.url("smtp", "localhost", query="?starttls=1")
        for number, ((command, reply), failure) in enumerate(TURNED_AWAY.items()):
            server.turned_away = {command: reply}
            with process_settings(settings | {"SMTP_URL": url}):
                write(f"{number}@example.com")
                running = Mailer()
                found = attempted(database, f"{number}@example.com")
                running.drain()
            assert (found["failure"], found["state"]) == (failure, "pending"), reply


def test_without_a_mail_server_mails_wait(database: psycopg.Connection, settings: dict[str, str]) -> None:
    with process_settings({name: value for name, value in settings.items() if name != "SMTP_URL"}):
        write("ada@example.com")
        running = Mailer()
        found = attempted(database, "ada@example.com")
        running.drain()
    assert (found["failure"], found["state"]) == ("no_mail_server", "pending")


def test_what_another_secret_key_sealed_has_failed(
    database: psycopg.Connection, settings: dict[str, str], server: MailServer
) -> None:
    with process_settings(settings | {"SECRET_KEY": "another" * 5}):
        write("ada@example.com")
    running = Mailer()
    found = attempted(database, "ada@example.com")
    running.drain()
    assert (found["failure"], found["state"]) == ("unreadable", "failed")
    assert server.connections == 0


def test_no_log_has_a_recipient_or_a_link(
    database: psycopg.Connection, server: MailServer, mailer: Mailer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="worker")
    server.answers["ada@example.com"] = [Answer("named", "451 not ada@example.com")]
    write("ada@example.com")
    attempted(database, "ada@example.com")
    assert caplog.records
    shown = "".join(str(vars(record)) for record in caplog.records if record.name.startswith("worker"))
    assert "ada" not in shown
    assert "token=" not in shown


def test_a_drain_waits_for_what_is_under_way_and_a_hastened_one_does_not(
    database: psycopg.Connection, server: MailServer, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail_sender, "ATTEMPT_SECONDS", HANGING_SECONDS)
    server.answers = {to: [Answer("taken", "hang")] for to in ("waited@example.com", "dropped@example.com")}
    write("waited@example.com")
    running = Mailer()
    server.wait_for("waited@example.com")
    running.drain()
    assert row(database, "waited@example.com")["failure"] == "timed_out"

    monkeypatch.setattr(mail_sender, "ATTEMPT_SECONDS", 600.0)
    write("dropped@example.com")
    running = Mailer()
    server.wait_for("dropped@example.com")
    running.hasten()
    running.drain()
    assert row(database, "dropped@example.com")["state"] == "sending"


def test_what_came_of_a_mail_is_recorded_when_it_can_be_again(
    database: psycopg.Connection,
    server: MailServer,
    settings: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(mail_sender, "ATTEMPT_SECONDS", HANGING_SECONDS)
    server.answers = {to: [Answer("taken", "hang")] for to in ("a@example.com", "b@example.com")}
    write("a@example.com")
    write("b@example.com")
    running = Mailer()
    for to in server.answers:
        server.wait_for(to)
    database.execute("ALTER TABLE mails RENAME TO away")
    # Until both attempts are over, and neither can be recorded.
    wait_for(lambda: [r for r in caplog.records if "record waits" in r.message], lambda found: len(found) >= 2)
    database.execute("ALTER TABLE away RENAME TO mails")
    running.drain()
    for to in server.answers:
        assert row(database, to)["failure"] == "timed_out"


def test_the_time_of_a_mail_is_that_of_its_act(database: psycopg.Connection, server: MailServer) -> None:
    """However late it is sent: a reader then knows which of two links is the newer one."""
    write("ada@example.com")
    database.execute("UPDATE mails SET created_at = '2026-01-02 03:04:05+00'")
    running = Mailer()
    (mail,) = server.wait_for("ada@example.com")
    running.drain()
    assert email.utils.parsedate_to_datetime(mail["Date"]) == datetime.fromisoformat("2026-01-02T03:04:05+00:00")
