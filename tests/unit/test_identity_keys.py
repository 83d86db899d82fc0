"""The keys of the operator's identity provider: which hold, when they are fetched, and what if they cannot be."""

import base64
import json
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from common import bounded_fetch, identity_keys, identity_tokens
from common.errors import Unavailable
from common.identity_tokens import Identity
from tests import receivers
from tests.forged_tokens import GOOD, hs256, refused
from tests.identity_provider import AUDIENCE, EC_KEY, OTHER_RSA_KEY, RSA_KEY, SUBJECT, IdentityProvider, key_set, public
from tests.process_settings import process_settings
from tests.receivers import Answer, Receiver, drip, flood, hang, reset, said, status
from tests.waiting import Stopwatch


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receivers.running() as running:
        yield running


@pytest.fixture
def provider(receiver: Receiver) -> Iterator[IdentityProvider]:
    """A provider whose key set the settings name."""
    made = IdentityProvider(receiver)
    with process_settings(GOOD | made.settings()):
        yield made


def test_keys_that_are_not_for_this_are_left_out(provider: IdentityProvider) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = rsa.generate_private_key(65537, 1024)
        tokens = [
            provider.token(small, "small"),
            provider.token(RSA_KEY, "encrypting"),
            provider.token(RSA_KEY, "other"),
            provider.token(ec.generate_private_key(ec.SECP384R1()), "p384", "ES384"),
            hs256(provider, b"oct oct oct oct oct oct oct oct ", "oct"),
        ]
    broken: Any = [None, 7, [], {}, {"kty": "RSA"}, {"kty": "RSA", "n": "!", "e": 7}, {"kty": ["EC"]}, {"kid": {}}]
    provider.serve(
        *broken,
        public(small, "small"),
        public(RSA_KEY, "encrypting", use="enc"),
        public(RSA_KEY, "other", alg="RS512"),
        public(ec.generate_private_key(ec.SECP384R1()), "p384"),
        {"kty": "oct", "kid": "oct", "k": base64.urlsafe_b64encode(b"oct " * 8).rstrip(b"=").decode()},
        public(EC_KEY, "good"),
    )
    for token in tokens:
        assert refused(token) == "invalid_identity_token"
    identity_tokens.check(provider.token(EC_KEY, "good", "ES256"))


def test_a_new_key_is_fetched_and_invented_ones_cost_the_provider_nothing(
    provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity_tokens.check(provider.token())
    provider.serve(public(OTHER_RSA_KEY, "rsa-2"))
    for number in range(50):
        refused(provider.token(OTHER_RSA_KEY, f"invented-{number}"))
    # Not within a minute of the last fetch.
    refused(provider.token(OTHER_RSA_KEY, "rsa-2"))
    assert provider.fetches == 1
    monkeypatch.setattr(identity_keys.key_set(), "_next_fetch_at", time.monotonic())
    identity_tokens.check(provider.token(OTHER_RSA_KEY, "rsa-2"))
    # What is no longer in the set is not taken.
    refused(provider.token())
    assert provider.fetches == 2


def test_many_requests_at_once_fetch_the_keys_once(provider: IdentityProvider) -> None:
    provider.receiver.at("/keys", receivers.after(0.5, key_set(public(RSA_KEY, "rsa-1"))))
    found: list[Identity] = []
    threads = [
        threading.Thread(target=lambda: found.append(identity_tokens.check(provider.token()))) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20
    assert provider.fetches == 1


AWAY: dict[str, Answer] = {
    "an error": status(500),
    "not there": status(404),
    "a redirect": status(302, location="/elsewhere"),
    "a hang": hang,
    "a byte now and then": drip,
    "a gigabyte": flood,
    "a reset": reset,
    "no HTTP": said(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "nothing": said(b""),
    "no JSON": status(200, b"<html>"),
    "no UTF-8": status(200, b'{"keys": "\xff"}'),
    "deep": status(200, b"[" * 100_000),
    "a list": status(200, b"[]"),
    "no list of keys": status(200, b'{"keys": {}}'),
}


@pytest.mark.parametrize("name", AWAY)
def test_without_the_providers_keys_nobody_can_tell_and_nobody_waits_long(
    provider: IdentityProvider, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity_keys, "FETCH_SECONDS", 1.0)
    provider.receiver.at("/keys", AWAY[name])
    asking = Stopwatch()
    with pytest.raises(Unavailable) as error:
        identity_tokens.check(provider.token())
    assert asking.seconds < 3
    assert error.value.code == "identity_provider_unavailable"
    # The next one does not wait at all.
    with pytest.raises(Unavailable):
        identity_tokens.check(provider.token())
    assert provider.fetches <= 1
    # And soon it is asked again.
    provider.serve(public(RSA_KEY, "rsa-1"))
    monkeypatch.setattr(identity_keys.key_set(), "_next_fetch_at", time.monotonic())
    identity_tokens.check(provider.token())


def test_while_the_provider_is_away_one_request_at_a_time_waits_for_it(provider: IdentityProvider) -> None:
    provider.receiver.at("/keys", status(500))
    refusals: list[Unavailable] = []

    def check() -> None:
        with pytest.raises(Unavailable) as error:
            identity_tokens.check(provider.token())
        refusals.append(error.value)

    check()
    # Another one is waiting.
    with identity_keys.key_set()._fetching:
        thread = threading.Thread(target=check, daemon=True)
        thread.start()
        thread.join(20)
        assert len(refusals) == 2


def test_while_the_provider_is_away_its_keys_hold_on_but_not_for_ever(
    provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity_tokens.check(provider.token())
    provider.receiver.at("/keys", status(500))
    keys = identity_keys.key_set()
    monkeypatch.setattr(keys, "_next_fetch_at", time.monotonic())
    monkeypatch.setattr(identity_keys, "FRESH_SECONDS", 0.0)
    identity_tokens.check(provider.token())
    assert provider.fetches == 2
    # One that might be new: nobody can tell.
    with pytest.raises(Unavailable):
        identity_tokens.check(provider.token(OTHER_RSA_KEY, "rsa-2"))
    monkeypatch.setattr(identity_keys, "KEPT_SECONDS", 0.0)
    with pytest.raises(Unavailable):
        identity_tokens.check(provider.token())


def discovery(provider: IdentityProvider, **document: Any) -> Answer:
    said_by_default = {"issuer": provider.issuer, "jwks_uri": provider.keys_url}
    return status(200, json.dumps(said_by_default | document).encode())


def test_where_the_keys_are_is_asked_of_the_issuer(receiver: Receiver) -> None:
    provider = IdentityProvider(receiver)
    receiver.at("/.well-known/openid-configuration", discovery(provider))
    with process_settings(GOOD | {"OIDC_ISSUER": provider.issuer, "OIDC_AUDIENCE": AUDIENCE}):
        assert identity_tokens.check(provider.token()).subject == SUBJECT


@pytest.mark.parametrize(
    "document",
    [{"issuer": "https://evil.example.com"}, {"jwks_uri": "file:///etc/passwd"}, {"jwks_uri": 7}, {"jwks_uri": None}],
)
def test_a_document_of_another_issuer_or_without_a_place_is_not_gone_by(
    receiver: Receiver, document: dict[str, Any]
) -> None:
    provider = IdentityProvider(receiver)
    receiver.at("/.well-known/openid-configuration", discovery(provider, **document))
    settings = GOOD | {"OIDC_ISSUER": provider.issuer, "OIDC_AUDIENCE": AUDIENCE}
    with process_settings(settings), pytest.raises(Unavailable):
        identity_tokens.check(provider.token())
    assert provider.fetches == 0


def test_a_fetch_reads_so_much_and_no_more(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_fetch, "MAX_BYTES", 100)
    with pytest.raises(bounded_fetch.FetchFailed, match="over 100 bytes"):
        bounded_fetch.fetch_json(receiver.at("/", status(200, b'"%s"' % (b"x" * 200))), 5.0)
