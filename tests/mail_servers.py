"""A mail server that does what it is told to for each recipient, and remembers what it took."""

import asyncio
import email
import email.policy
import ssl
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any, Literal

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.waiting import wait_for

USER = "user"
PASSWORD = "a/b#c?d@e"

# In the order of a transfer: the recipient is named; the content is asked for; it is here, and nobody knows yet.
Stage = Literal["named", "asked", "taken"]
Connect = Callable[[asyncio.AbstractEventLoop], asyncio.BaseProtocol]


@dataclass(frozen=True)
class Answer:
    """What is done at a stage: a reply such as "550 no such user", or "hang" and "reset"."""

    stage: Stage
    act: str


FINE = Answer("taken", "250 OK")


@dataclass
class MailServer:
    """`answers` says what is done for each recipient, one mail after the other and the last for all that follow; any
    other's mails are taken. `took` has the mails that it has, also where it did not get to say so."""

    port: int = 0
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    took: list[tuple[str, EmailMessage]] = field(default_factory=list)
    connections: int = 0
    logins: list[str] = field(default_factory=list)
    # Mails begun, by recipient.
    begun: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    # What a command is answered before anybody is named, such as EHLO or MAIL, in the place of what it does.
    turned_away: dict[str, str] = field(default_factory=dict)

    def url(self, scheme: str = "smtp", host: str = "127.0.0.1", login: str = "", query: str = "") -> str:
        return f"{scheme}://{login}{host}:{self.port}{query}"

    def of(self, recipient: str) -> list[EmailMessage]:
        return [mail for to, mail in list(self.took) if to == recipient]

    def wait_for(self, recipient: str, mails: int = 1, seconds: float = 30) -> list[EmailMessage]:
        return wait_for(lambda: self.of(recipient), lambda found: len(found) >= mails, seconds)

    def next_answer(self, recipient: str) -> Answer:
        self.begun[recipient] += 1
        answers = self.answers.get(recipient, [FINE])
        return answers.pop(0) if len(answers) > 1 else answers[0]


class _Connection(SMTP):
    """One connection, with what is to be done for its mail."""

    answer = FINE

    def __init__(self, server: MailServer, loop: asyncio.AbstractEventLoop, tls: ssl.SSLContext | None) -> None:
        super().__init__(
            _Handler(),
            loop=loop,
            hostname="localhost",
            enable_SMTPUTF8=True,
            tls_context=tls,
            require_starttls=tls is not None,
            auth_require_tls=False,
            authenticator=self._login,
        )
        self._of = server
        server.connections += 1

    def _login(self, server: SMTP, session: Session, envelope: Envelope, how: str, given: object) -> AuthResult:
        assert isinstance(given, LoginPassword)
        self._of.logins.append(given.login.decode())
        return AuthResult(success=(given.login, given.password) == (USER.encode(), PASSWORD.encode()), handled=False)

    async def act(self, stage: Stage, otherwise: str) -> str:
        if self.answer.stage != stage:
            return otherwise
        if self.answer.act not in ("hang", "reset"):
            return self.answer.act
        if self.answer.act == "reset":
            # As a machine that loses its power: what it says is nothing.
            assert isinstance(self.transport, asyncio.Transport)
            self.transport.abort()
        await asyncio.Event().wait()
        return otherwise

    async def smtp_EHLO(self, hostname: str) -> None:
        await self._unless_turned_away("EHLO", super().smtp_EHLO, hostname)

    async def smtp_STARTTLS(self, arg: str) -> None:
        await self._unless_turned_away("STARTTLS", super().smtp_STARTTLS, arg)

    async def smtp_MAIL(self, arg: str | None) -> None:
        await self._unless_turned_away("MAIL", super().smtp_MAIL, arg)

    async def _unless_turned_away(self, command: str, act: Callable[[Any], Awaitable[None]], arg: str | None) -> None:
        reply = self._of.turned_away.get(command)
        await (act(arg) if reply is None else self.push(reply))

    async def smtp_RCPT(self, arg: str) -> None:
        recipient = arg[len("TO:<") :].split(">")[0]
        self.answer = self._of.next_answer(recipient)
        reply = await self.act("named", "")
        if reply:
            await self.push(reply)
        else:
            await super().smtp_RCPT(arg)

    async def smtp_DATA(self, arg: str) -> None:
        if self.answer.stage == "asked":
            if self.answer.act in ("hang", "reset"):
                await self.push("354 go on")
                # Some of it, and not all.
                await self._reader.readexactly(100)
            await self.push(await self.act("asked", ""))
        else:
            await super().smtp_DATA(arg)

    async def took(self, envelope: Envelope) -> str:
        if self.answer.stage != "taken" or self.answer.act[0] not in "45":
            mail = email.message_from_bytes(envelope.original_content or b"", policy=email.policy.default)
            self._of.took += [(recipient, mail) for recipient in envelope.rcpt_tos]
        return await self.act("taken", "250 OK")


class _Handler:
    """Where aiosmtpd looks for what is to be done with a mail."""

    async def handle_DATA(self, server: _Connection, session: Session, envelope: Envelope) -> str:
        return await server.took(envelope)


@contextmanager
def running(starttls: ssl.SSLContext | None = None, tls: ssl.SSLContext | None = None) -> Iterator[MailServer]:
    """A mail server on a port of its own, in a thread of its own."""
    server = MailServer()
    with _listening(lambda loop: _Connection(server, loop, starttls), tls) as server.port:
        yield server


@contextmanager
def silent() -> Iterator[int]:
    """The port of a server that takes connections and says nothing."""
    with _listening(lambda loop: asyncio.Protocol(), None) as port:
        yield port


@contextmanager
def _listening(connection: Connect, tls: ssl.SSLContext | None) -> Iterator[int]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def listen() -> asyncio.Server:
        return await loop.create_server(lambda: connection(loop), "127.0.0.1", 0, ssl=tls)

    async def close() -> None:
        listening.close()
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    listening = asyncio.run_coroutine_threadsafe(listen(), loop).result()
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
