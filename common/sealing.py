"""What is secret and must be read again: the database holds it encrypted under SECRET_KEY, each purpose under a key of
its own, so that nothing sealed for one is taken for another."""

import base64
import hmac
from functools import lru_cache

from cryptography.fernet import Fernet

from common.settings import settings


@lru_cache(maxsize=16)
def cipher(purpose: str) -> Fernet:
    """What seals and unseals for a purpose. Unsealing raises cryptography.fernet.InvalidToken after another
    SECRET_KEY."""
    pepper = settings().secret_key.get_secret_value().encode()
    return Fernet(base64.urlsafe_b64encode(hmac.digest(pepper, purpose.encode(), "sha256")))
