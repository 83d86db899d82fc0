"""Whatever a customer's URL says, and whatever its name leads to: nothing is connected to but what is public."""

import asyncio
import errno
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence

import pytest
import uvloop

from common import ids, webhook_secrets
from common.addresses import is_public
from tests import receivers
from tests.process_settings import process_settings
from tests.receivers import Receiver
from tests.unit.test_addresses import NOT_PUBLIC
from tests.unit.test_webhook_urls import NEEDED, REFUSED
from worker.delivery_claims import ClaimedDelivery
from worker.sender import Attempt, RefusedAddress, Sender, _public_socket

# Every connection that this process begins, by whatever library: Python tells its auditors, who may forbid it.
_connected: list[str] = []


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if event == "socket.connect":
        address = arguments[1]
        _connected.append(str(address))
        if isinstance(address, tuple) and is_public(str(address[0])):
            raise ConnectionRefusedError(errno.ECONNREFUSED, "no test leaves this machine")


sys.addaudithook(_audit)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """On a port that webhooks may go to."""
    with (
        receivers.running() as running,
        process_settings(
            {**NEEDED, "WEBHOOK_PORTS": f"443,8443,{running.port}", "WEBHOOK_ALLOWED_HOSTS": "trusted.example"}
        ),
    ):
        yield running


def delivery(url: str) -> ClaimedDelivery:
    secrets = (webhook_secrets.new(),)
    return ClaimedDelivery(ids.new_id(), 1, 1, ids.new_id(), ids.new_id(), url, secrets, b"{}")


def send(urls: Sequence[str], answers: Mapping[str, Sequence[Sequence[str]]]) -> list[Attempt]:
    """What comes of one attempt for each URL, one after the other. `answers` are what each name leads to, at the first
    look-up, the second and so on, and at the last for good."""
    looked_up: dict[str, int] = dict.fromkeys(answers, -1)

    def look_up(host: str, port: int) -> list[tuple[int, str]]:
        if host not in answers:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        looked_up[host] += 1
        found = answers[host][min(looked_up[host], len(answers[host]) - 1)]
        return [(socket.AF_INET6 if ":" in address else socket.AF_INET, address) for address in found]

    async def run() -> list[Attempt]:
        sender = Sender(4, look_up)
        try:
            return [await sender.send(delivery(url)) for url in urls]
        finally:
            await sender.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        _connected.clear()
        return runner.run(run())


def test_no_url_that_is_refused_is_connected_to_even_if_it_was_stored(receiver: Receiver) -> None:
    urls = {url: failure for failure, of in REFUSED.items() for url in of}
    # On the port that is allowed here.
    urls |= {
        f"https://{host}:{receiver.port}/": "refused_private_address"
        for host in ("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "0x7f.1", "0177.1", "127.1")
    }
    failures = [attempt.failure for attempt in send(list(urls), {})]
    assert dict(zip(urls, failures, strict=True)) == urls
    assert _connected == []
    assert receiver.connections == 0


def test_a_name_that_leads_to_an_address_that_is_not_public_is_refused(receiver: Receiver) -> None:
    # Alone, before a public one and behind it: which is taken would be chance.
    answers = [
        answer
        for address in NOT_PUBLIC
        for answer in ([address], [address, "8.8.8.8"], ["8.8.8.8", address], ["2606:4700:4700::1111", address])
    ]
    names = {f"{number}.customer.example": [answer] for number, answer in enumerate(answers)}
    failures = [attempt.failure for attempt in send([f"https://{name}:{receiver.port}/" for name in names], names)]
    assert dict.fromkeys(names, "refused_private_address") == dict(zip(names, failures, strict=True))
    assert _connected == []
    assert receiver.connections == 0


def test_a_name_that_is_public_first_and_private_then_is_not_followed_there(receiver: Receiver) -> None:
    url = f"https://customer.example:{receiver.port}/"
    # What was looked at is what is connected to: one look-up for an attempt.
    first, second = send([url, url], {"customer.example": [["8.8.8.8"], ["127.0.0.1"]]})
    assert first.failure == "connection_failed"
    assert _connected == [f"('8.8.8.8', {receiver.port})"]
    assert second.failure == "refused_private_address"
    assert receiver.connections == 0


def test_the_last_word_is_had_where_the_connection_is_made(receiver: Receiver) -> None:
    # A resolver that lies, or a library that takes a name for an address: the socket itself is refused.
    for address in NOT_PUBLIC:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with pytest.raises(RefusedAddress):
            _public_socket((family, socket.SOCK_STREAM, 0, "", (address, receiver.port)))


def test_a_redirect_to_a_private_address_is_not_followed(receiver: Receiver) -> None:
    private = f"http://127.0.0.1:{receiver.port}/private"
    url = f"http://trusted.example:{receiver.port}/hook"
    for code in (301, 302, 303, 307, 308):
        receiver.at("/hook", receivers.status(code, location=private))
        (attempt,) = send([url], {"trusted.example": [["127.0.0.1"]]})
        assert (attempt.failure, attempt.status_code) == ("redirected", code)
    assert [request.path for request in receiver.received] == ["/hook"] * 5


def test_the_operators_own_host_is_connected_to_at_a_private_address(receiver: Receiver) -> None:
    (attempt,) = send([f"http://trusted.example:{receiver.port}/"], {"trusted.example": [["127.0.0.1"]]})
    assert attempt.failure is None
    # So the tests above would have seen a connection.
    assert _connected == [f"('127.0.0.1', {receiver.port})"]
    assert receiver.connections == 1


def test_the_table_has_more_than_sixty_kinds() -> None:
    assert len(NOT_PUBLIC) + sum(map(len, REFUSED.values())) >= 100
