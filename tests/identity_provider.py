"""An identity provider: keys, the tokens that it signs with them, and the server where its key set is."""

import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from tests.receivers import Answer, Receiver, status

AUDIENCE = "batchyard"
SUBJECT = "person-1"
EMAIL = "ada@example.com"

# Making one takes a while.
RSA_KEY = rsa.generate_private_key(65537, 2048)
OTHER_RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_EC_KEY = ec.generate_private_key(ec.SECP256R1())

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def public(key: Key, kid: str | None, **more: Any) -> dict[str, Any]:
    """The public half, as a key set has it."""
    algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    made: dict[str, Any] = json.loads(algorithm.to_jwk(key.public_key()))  # type: ignore[arg-type]
    made.pop("key_ops", None)
    return made | ({"kid": kid} if kid is not None else {}) | more


def key_set(*keys: dict[str, Any]) -> Answer:
    return status(200, json.dumps({"keys": keys}).encode())


class IdentityProvider:
    """`issuer` is what its tokens have in `iss`, and where it is found."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.issuer = receiver.at("")
        self.keys_url = receiver.at("/keys")
        self.serve(public(RSA_KEY, "rsa-1", use="sig", alg="RS256"), public(EC_KEY, "ec-1"))

    def serve(self, *keys: dict[str, Any]) -> None:
        self.receiver.at("/keys", key_set(*keys))

    @property
    def fetches(self) -> int:
        return len(self.receiver.of("/keys"))

    def settings(self) -> dict[str, str]:
        return {"OIDC_ISSUER": self.issuer, "OIDC_AUDIENCE": AUDIENCE, "OIDC_JWKS_URL": self.keys_url}

    def claims(self, **changed: Any) -> dict[str, Any]:
        """What a good token says, with some of it changed; None leaves out."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": SUBJECT,
            "exp": now + 300,
            "iat": now,
            "nbf": now,
            "email": EMAIL,
            "email_verified": True,
        } | changed
        return {name: value for name, value in claims.items() if value is not None}

    def token(
        self, key: Key | str | bytes = RSA_KEY, kid: str | None = "rsa-1", algorithm: str = "RS256", **changed: Any
    ) -> str:
        headers = {"kid": kid} if kid is not None else {}
        return jwt.encode(self.claims(**changed), key, algorithm=algorithm, headers=headers)
