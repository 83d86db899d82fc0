"""What webhooks are signed with: Standard Webhooks' secrets and signatures (standardwebhooks.com).

The database holds secrets encrypted under SECRET_KEY, and whoever makes one is shown it once.
"""

import base64
import hmac
import secrets
from collections.abc import Sequence

from common.sealing import cipher

PREFIX = "whsec_"
SECRET_BYTES = 32
_PURPOSE = "webhooks:secrets"


def new() -> str:
    """`whsec_` and the base64 of 32 random bytes."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def seal(secret: str) -> bytes:
    """The secret as the database holds it."""
    return cipher(_PURPOSE).encrypt(secret.encode())


def unseal(sealed: bytes) -> str:
    """The secret again. Raises cryptography.fernet.InvalidToken after another SECRET_KEY."""
    return cipher(_PURPOSE).decrypt(sealed).decode()


def signatures(signing: Sequence[str], webhook_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: one signature for each secret, with a space between. `timestamp` is Unix
    seconds, as in the header `webhook-timestamp`."""
    signed = b"%s.%d.%s" % (webhook_id.encode(), timestamp, body)
    digests = (hmac.digest(_key(secret), signed, "sha256") for secret in signing)
    return " ".join("v1," + base64.b64encode(digest).decode() for digest in digests)


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(PREFIX))
