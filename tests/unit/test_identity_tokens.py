"""Tokens of the operator's identity provider: which are taken, and that no other is."""

import base64
import hmac
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from common import identity_tokens
from common.errors import AuthenticationFailed, BatchyardError
from common.identity_tokens import Identity
from tests import receivers
from tests.forged_tokens import GOOD, hs256, part, refused, unsigned
from tests.identity_provider import (
    AUDIENCE,
    EC_KEY,
    EMAIL,
    OTHER_EC_KEY,
    OTHER_RSA_KEY,
    RSA_KEY,
    SUBJECT,
    IdentityProvider,
)
from tests.process_settings import process_settings
from tests.receivers import Receiver

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


def under_public_key(provider: IdentityProvider) -> str:
    """The classic: a public key taken for a secret."""
    pem = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hs256(provider, pem, "rsa-1")


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
