"""Tokens of the operator's own identity provider: JSON Web Tokens that say who somebody is (OpenID Connect).

Which are good is for the settings to say, and never for the token.
"""

import base64
from dataclasses import dataclass
from typing import Any

import jwt

from common import identity_keys, json_text, mail_addresses
from common.errors import AuthenticationFailed
from common.settings import settings

# What the clocks of two machines may differ by.
LEEWAY_SECONDS = 30
# OpenID Connect Core 1.0, section 2.
MAX_SUBJECT_CHARACTERS = 255
MAX_TOKEN_CHARACTERS = 16 * 1024
REQUIRED = ["exp", "iss", "aud", "sub"]
# Of an ID token, an access token (RFC 9068) or one that does not say; a log-out token is neither.
TYPES = ("jwt", "at+jwt", "application/at+jwt")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is to the identity provider: `subject` never changes, `email` may, and is None where there is none
    that mail can be sent to. Only an `email_verified` is known to be theirs."""

    issuer: str
    subject: str
    email: str | None
    email_verified: bool


def is_one(token: str) -> bool:
    """Whether it is a token for `check`: identity providers are known here, and it has the form."""
    if settings().oidc_issuer is None or token.count(".") != 2 or len(token) > MAX_TOKEN_CHARACTERS:
        return False
    try:
        head = json_text.loads(base64.urlsafe_b64decode(token.partition(".")[0] + "=="))
    except ValueError:
        return False
    return isinstance(head, dict) and "alg" in head


def check(token: str) -> Identity:
    """Who the token is of. Raises AuthenticationFailed, and Unavailable while the provider's keys cannot be had."""
    try:
        claims = _claims(token)
    except jwt.ExpiredSignatureError:
        raise AuthenticationFailed(
            "The identity provider's token has expired.", code="identity_token_expired"
        ) from None
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        # What it was is nobody's business who can make none.
        raise _refused() from None
    subject = claims["sub"]
    if not 0 < len(subject) <= MAX_SUBJECT_CHARACTERS or not subject.isprintable():
        raise _refused()
    return Identity(claims["iss"], subject, _email(claims), claims.get("email_verified") in (True, "true"))


def _claims(token: str) -> dict[str, Any]:
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise _refused()
    header = jwt.get_unverified_header(token)
    if str(header.get("typ", "jwt")).lower() not in TYPES:
        raise _refused()
    algorithms, key = _algorithms_and_key(header)
    return jwt.decode(
        token,
        key=key,
        algorithms=algorithms,
        audience=settings().oidc_audience,
        issuer=settings().oidc_issuer,
        leeway=LEEWAY_SECONDS,
        options={"require": REQUIRED, "enforce_minimum_key_length": True},
    )


def _algorithms_and_key(header: dict[str, Any]) -> tuple[list[str], jwt.PyJWK | bytes]:
    """By the settings alone: no token chooses how it is checked, so that a public key is never taken for a secret."""
    secret = settings().oidc_shared_secret
    if secret is not None:
        return ["HS256"], secret.get_secret_value().encode()
    algorithm = header.get("alg")
    if algorithm not in identity_keys.ALGORITHMS:
        raise _refused()
    key = identity_keys.key_set().find(header.get("kid"), algorithm)
    if key is None:
        raise _refused()
    return [algorithm], key


def _email(claims: dict[str, Any]) -> str | None:
    email = claims.get("email")
    return email.lower() if isinstance(email, str) and mail_addresses.is_address(email.lower()) else None


def _refused() -> AuthenticationFailed:
    return AuthenticationFailed("The identity provider's token is not valid here.", code="invalid_identity_token")
