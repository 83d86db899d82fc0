"""Tokens that no identity provider of the operator's made, and how they are refused."""

import base64
import hmac
import json
from typing import Any

import pytest

from common import identity_tokens
from common.errors import AuthenticationFailed
from tests.identity_provider import IdentityProvider

# Of services that nobody asks.
GOOD = {
    "DATABASE_URL": "postgresql://owner@127.0.0.1:9/none",
    "WEB_DATABASE_URL": "postgresql://batchyard_web@127.0.0.1:9/none",
    "REDIS_URL": "redis://127.0.0.1:9/0",
    "STORAGE_URL": "file:///tmp",
    "SECRET_KEY": "x" * 32,
    "PROVIDER_API_KEY": "none",
}


def refused(token: str) -> str | None:
    with pytest.raises(AuthenticationFailed) as error:
        identity_tokens.check(token)
    assert not token or token not in error.value.message
    return error.value.code


def part(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def unsigned(provider: IdentityProvider, algorithm: str) -> str:
    return f"{part({'alg': algorithm, 'typ': 'JWT', 'kid': 'rsa-1'})}.{part(provider.claims())}."


def hs256(provider: IdentityProvider, secret: bytes, kid: str) -> str:
    signed = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': kid})}.{part(provider.claims())}"
    signature = base64.urlsafe_b64encode(hmac.digest(secret, signed.encode(), "sha256")).rstrip(b"=").decode()
    return f"{signed}.{signature}"
