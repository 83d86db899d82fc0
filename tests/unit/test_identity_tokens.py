"""Tokens of the operator's identity provider: which are taken, and that no other is."""

import base64
import hmac
import json
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from common import bounded_fetch, identity_keys, identity_tokens
from common.errors import AuthenticationFailed, BatchyardError, Unavailable
from common.identity_tokens import Identity
from tests import receivers
from tests.identity_provider import (
    AUDIENCE,
    EC_KEY,
    EMAIL,
    OTHER_EC_KEY,
    OTHER_RSA_KEY,
    RSA_KEY,
    SUBJECT,
    IdentityProvider,
    key_set,
    public,
)
from tests.process_settings import process_settings
from tests.receivers import Answer, Receiver, drip, flood, hang, reset, said, status

# Of services that nobody asks.
GOOD = {
    "DATABASE_URL": "postgresql://owner@127.0.0.1:9/none",
    "WEB_DATABASE_URL": "postgresql://batchyard_web@127.0.0.1:9/none",
    "REDIS_URL": "redis://127.0.0.1:9/0",
    "STORAGE_URL": "file:///tmp",
    "SECRET_KEY": "x" * 32,
    "PROVIDER_API_KEY": "none",
}
SECRET = "a secret of the provider's and ours, which is long"


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


@pytest.fixture
def sharing(receiver: Receiver) -> Iterator[IdentityProvider]:
    """One that signs with a secret."""
    made = IdentityProvider(receiver)
    settings = {"OIDC_ISSUER": made.issuer, "OIDC_AUDIENCE": AUDIENCE, "OIDC_SHARED_SECRET": SECRET}
    with process_settings(GOOD | settings):
        yield made


def refused(token: str) -> str | None:
    with pytest.raises(AuthenticationFailed) as error:
        identity_tokens.check(token)
    assert not token or token not in error.value.message
    return error.value.code


def part(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def test_tokens_that_the_provider_signed_say_who_somebody_is(provider: IdentityProvider) -> None:
    expected = Identity(provider.issuer, SUBJECT, EMAIL, True)
    assert identity_tokens.check(provider.token()) == expected
    assert identity_tokens.check(provider.token(EC_KEY, "ec-1", "ES256")) == expected
    # A key without a name is the only one of its kind.
    assert identity_tokens.check(provider.token(EC_KEY, None, "ES256")) == expected
    assert identity_tokens.check(provider.token(aud=["another", AUDIENCE])) == expected
    assert identity_tokens.check(provider.token(nbf=None, iat=None)) == expected
    assert provider.fetches == 1


def test_tokens_signed_with_the_shared_secret_say_who_somebody_is(sharing: IdentityProvider) -> None:
    token = sharing.token(SECRET, None, "HS256")
    assert identity_tokens.check(token) == Identity(sharing.issuer, SUBJECT, EMAIL, True)
    assert sharing.receiver.received == []


@pytest.mark.parametrize(
    ("claims", "email", "verified"),
    [
        ({"email": "Ada@Example.COM"}, "ada@example.com", True),
        ({"email": None}, None, True),
        ({"email": "ada"}, None, True),
        ({"email": "ada@example.com\r\nBcc: eve@example.com"}, None, True),
        ({"email": ["ada@example.com"]}, None, True),
        ({"email_verified": None}, EMAIL, False),
        ({"email_verified": False}, EMAIL, False),
        ({"email_verified": "true"}, EMAIL, True),
        ({"email_verified": "false"}, EMAIL, False),
        ({"email_verified": "yes"}, EMAIL, False),
        ({"email_verified": 2}, EMAIL, False),
        ({"email_verified": [True]}, EMAIL, False),
    ],
)
def test_an_address_is_taken_for_what_the_token_says_of_it(
    provider: IdentityProvider, claims: dict[str, Any], email: str | None, verified: bool
) -> None:
    found = identity_tokens.check(provider.token(**claims))
    assert (found.email, found.email_verified) == (email, verified)


Forge = Callable[[IdentityProvider], str]


def unsigned(provider: IdentityProvider, algorithm: str) -> str:
    return f"{part({'alg': algorithm, 'typ': 'JWT', 'kid': 'rsa-1'})}.{part(provider.claims())}."


def under_public_key(provider: IdentityProvider) -> str:
    """The classic: a public key taken for a secret."""
    pem = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hs256(provider, pem, "rsa-1")


def hs256(provider: IdentityProvider, secret: bytes, kid: str) -> str:
    signed = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': kid})}.{part(provider.claims())}"
    signature = base64.urlsafe_b64encode(hmac.digest(secret, signed.encode(), "sha256")).rstrip(b"=").decode()
    return f"{signed}.{signature}"


def changed(provider: IdentityProvider, **claims: Any) -> str:
    """Signed, and then changed."""
    head, _, signature = provider.token().split(".")
    return f"{head}.{part(provider.claims(**claims))}.{signature}"


def headed(provider: IdentityProvider, **headers: Any) -> str:
    return jwt.encode(provider.claims(), RSA_KEY, algorithm="RS256", headers={"kid": "rsa-1"} | headers)


FORGED: dict[str, Forge] = {
    "unsigned": lambda p: unsigned(p, "none"),
    "unsigned, in capitals": lambda p: unsigned(p, "NONE"),
    "unsigned, but said to be signed": lambda p: unsigned(p, "RS256"),
    "the public key as a secret": under_public_key,
    "nothing as a secret": lambda p: hs256(p, b"", "rsa-1"),
    "another's key under a known name": lambda p: p.token(OTHER_RSA_KEY),
    "another's key under its own name": lambda p: p.token(OTHER_RSA_KEY, "rsa-2"),
    "another's elliptic key": lambda p: p.token(OTHER_EC_KEY, "ec-1", "ES256"),
    "an elliptic key under the name of another kind": lambda p: p.token(EC_KEY, "rsa-1", "ES256"),
    "another algorithm of a known key": lambda p: p.token(algorithm="RS512"),
    "another padding of a known key": lambda p: p.token(algorithm="PS256"),
    "another person than was signed": lambda p: changed(p, sub="person-2"),
    "expired": lambda p: p.token(exp=int(time.time()) - 31),
    "not yet": lambda p: p.token(nbf=int(time.time()) + 40),
    "made tomorrow": lambda p: p.token(iat=int(time.time()) + 86_400),
    "without an end": lambda p: p.token(exp=None),
    "without an issuer": lambda p: p.token(iss=None),
    "without an audience": lambda p: p.token(aud=None),
    "without a subject": lambda p: p.token(sub=None),
    "of another issuer": lambda p: p.token(iss="https://evil.example.com"),
    "of an issuer with a slash more": lambda p: p.token(iss=p.issuer + "/"),
    "for another audience": lambda p: p.token(aud="another"),
    "for part of the audience": lambda p: p.token(aud="batch"),
    "for nobody": lambda p: p.token(aud=[]),
    "for a number": lambda p: p.token(aud=7),
    "of nobody": lambda p: p.token(sub=""),
    "of a number": lambda p: f"{unsigned(p, 'RS256')}AAAA",
    "of somebody with a line's end": lambda p: p.token(sub="a\nb"),
    "of somebody with a NUL": lambda p: p.token(sub="a\x00"),
    "of somebody endless": lambda p: p.token(sub="x" * 256),
    "to log out": lambda p: headed(p, typ="logout+jwt"),
    "of a type that is no text": lambda p: headed(p, typ=7),
    "with something critical": lambda p: headed(p, crit=["exp"], exp=0),
    "with a part too many": lambda p: p.token() + ".AAAA",
    "with a part missing": lambda p: p.token().rpartition(".")[0],
    "endless": lambda p: p.token(more="x" * 20_000),
    "nothing": lambda p: "",
    "dots": lambda p: "...",
    "an API key": lambda p: "by_0123456789_abcdefghijklmnopqrstuvwxyz",
}


@pytest.mark.parametrize("name", FORGED)
def test_no_other_token_is_taken(provider: IdentityProvider, name: str) -> None:
    expected = "identity_token_expired" if name == "expired" else "invalid_identity_token"
    with warnings.catch_warnings():
        # What PyJWT says to who makes tokens of these.
        warnings.simplefilter("ignore")
        token = FORGED[name](provider)
    assert refused(token) == expected


@pytest.mark.parametrize(
    "forge",
    [
        lambda p: hs256(p, b"another secret", "rsa-1"),
        lambda p: hs256(p, b"", "rsa-1"),
        lambda p: p.token(),
        lambda p: unsigned(p, "none"),
        lambda p: unsigned(p, "HS256"),
    ],
)
def test_with_a_shared_secret_nothing_else_is_taken(sharing: IdentityProvider, forge: Forge) -> None:
    assert refused(forge(sharing)) == "invalid_identity_token"
    assert sharing.receiver.received == []


def test_clocks_may_differ_by_half_a_minute(provider: IdentityProvider) -> None:
    now = int(time.time())
    identity_tokens.check(provider.token(exp=now - 20))
    identity_tokens.check(provider.token(nbf=now + 20, iat=now + 20))


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
    began = time.monotonic()
    with pytest.raises(Unavailable) as error:
        identity_tokens.check(provider.token())
    assert time.monotonic() - began < 3.0
    assert error.value.code == "identity_provider_unavailable"
    # The next one does not wait at all.
    with pytest.raises(Unavailable):
        identity_tokens.check(provider.token())
    assert provider.fetches <= 1
    # And soon it is asked again.
    provider.serve(public(RSA_KEY, "rsa-1"))
    monkeypatch.setattr(identity_keys.key_set(), "_next_fetch_at", time.monotonic())
    identity_tokens.check(provider.token())


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


def test_a_token_is_known_by_its_form_where_there_is_a_provider(provider: IdentityProvider) -> None:
    assert identity_tokens.is_one(provider.token())
    assert identity_tokens.is_one(unsigned(provider, "none"))
    for other in ("", "by_0123456789_abc", "eyJzaWQiOiJhIn0.aBcDeF.c2lnbmF0dXJl", "...", "a.b.c", "x" * 100_000):
        assert not identity_tokens.is_one(other)
    with process_settings(GOOD):
        assert not identity_tokens.is_one(provider.token())


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
headers = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("alg", "kid", "typ", "crit", "b64", "jwk", "jku", "x5c"), anything)
)


@given(header=headers | anything, claims=anything, signature=st.binary(max_size=80), tail=st.text(max_size=5))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_sent_is_refused_and_is_no_error(
    provider: IdentityProvider, header: Any, claims: Any, signature: bytes, tail: str
) -> None:
    signed = f"{part(header)}.{part(claims)}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}{tail}"
    for token in (signed, tail, signed[len(signed) // 2 :]):
        identity_tokens.is_one(token)
        with pytest.raises(BatchyardError):
            identity_tokens.check(token)


@given(claims=st.dictionaries(st.sampled_from(["exp", "nbf", "iat", "aud", "sub", "email", "jti"]), anything))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_provider_signs_is_taken_or_refused_and_is_no_error(
    sharing: IdentityProvider, claims: dict[str, Any]
) -> None:
    said_of_them = sharing.claims() | claims
    token = f"{part({'alg': 'HS256'})}.{part(said_of_them)}"
    signature = hmac.digest(SECRET.encode(), token.encode(), "sha256")
    token += "." + base64.urlsafe_b64encode(signature).rstrip(b"=").decode()
    try:
        found = identity_tokens.check(token)
    except AuthenticationFailed:
        return
    assert found.subject == said_of_them["sub"]


def test_a_fetch_reads_so_much_and_no_more(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_fetch, "MAX_BYTES", 100)
    with pytest.raises(bounded_fetch.FetchFailed, match="over 100 bytes"):
        bounded_fetch.fetch_json(receiver.at("/", status(200, b'"%s"' % (b"x" * 200))), 5.0)
