"""The public keys of the operator's identity provider, fetched when they are needed and kept for a while."""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

from jwt import PyJWK, PyJWTError

from common.bounded_fetch import FetchFailed, fetch_json
from common.errors import Unavailable
from common.once import Once
from common.settings import settings

log = logging.getLogger(__name__)

# Those that a key set is used for; of a key's own wishes none is heard.
ALGORITHMS = ("RS256", "ES256")
MAX_KEYS = 100
# After this long they are fetched anew; while that fails they hold on, but not for ever: a key may have been withdrawn.
FRESH_SECONDS = 600.0
KEPT_SECONDS = 3_600.0
# Between two fetches, so that tokens with invented keys cost the provider nothing; after one that failed.
REFETCH_SECONDS = 60.0
RETRY_SECONDS = 5.0
# For a key set, and for the document that says where it is.
FETCH_SECONDS = 5.0


class KeySet:
    """The keys at a URL, or where the issuer's discovery document says that they are. For many threads."""

    def __init__(self, issuer: str, url: str | None) -> None:
        self._issuer = issuer
        self._url = url
        self._keys: Sequence[PyJWK] = ()
        self._fetched_at = float("-inf")
        self._next_fetch_at = float("-inf")
        self._failed = False
        self._fetching = threading.Lock()

    def find(self, kid: str | None, algorithm: str) -> PyJWK | None:
        """The key of this name for this algorithm; without a name, the only one for it. Raises Unavailable while nobody
        can know."""
        if self._age() > FRESH_SECONDS:
            # One request waits for that, unless all must.
            self._fetch(wait=self._age() > KEPT_SECONDS)
        found = self._find(kid, algorithm)
        if found is None:
            # It may be new.
            self._fetch(wait=True)
            found = self._find(kid, algorithm)
        if found is None and self._failed:
            raise Unavailable(
                "The identity provider does not answer, so that its token cannot be checked: send this again later.",
                code="identity_provider_unavailable",
            )
        return found

    def _find(self, kid: str | None, algorithm: str) -> PyJWK | None:
        if self._age() > KEPT_SECONDS:
            return None
        fitting = [key for key in self._keys if key.algorithm_name == algorithm and kid in (None, key.key_id)]
        return fitting[0] if len(fitting) == 1 or (fitting and kid is not None) else None

    def _age(self) -> float:
        return time.monotonic() - self._fetched_at

    def _fetch(self, wait: bool) -> None:
        # While the provider fails, one request at a time waits for it, and leaves the places to whoever needs no keys.
        if not self._fetching.acquire(blocking=wait and not self._failed):
            return
        try:
            if time.monotonic() >= self._next_fetch_at:
                self._fetch_now()
        finally:
            self._fetching.release()

    def _fetch_now(self) -> None:
        try:
            self._keys = _keys(fetch_json(self._url or self._discovered(), FETCH_SECONDS))
        except FetchFailed as failed:
            log.error("the identity provider's keys cannot be had", extra={"problem": str(failed)})
            self._failed = True
            self._next_fetch_at = time.monotonic() + RETRY_SECONDS
        else:
            self._failed = False
            self._fetched_at = time.monotonic()
            self._next_fetch_at = self._fetched_at + REFETCH_SECONDS

    def _discovered(self) -> str:
        """Where the keys are by OpenID Connect Discovery 1.0, section 4."""
        where = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        document = fetch_json(where, FETCH_SECONDS)
        if document.get("issuer") != self._issuer:
            raise FetchFailed(f"{where} is of another issuer than OIDC_ISSUER")
        url = document.get("jwks_uri")
        # From a provider over TLS, nothing that could have been changed on its way.
        schemes = ("https://",) if self._issuer.startswith("https://") else ("https://", "http://")
        if not isinstance(url, str) or not url.startswith(schemes):
            raise FetchFailed(f"{where} names no jwks_uri that begins with {schemes[0]}")
        return url


@Once
def key_set() -> KeySet:
    """That of the settings, which name an issuer."""
    issuer = settings().oidc_issuer
    assert issuer is not None
    return KeySet(issuer, settings().oidc_jwks_url)


def _keys(document: Any) -> list[PyJWK]:
    """Those that sign; others are left out. Raises FetchFailed for what is no key set."""
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise FetchFailed("the identity provider's key set has no list of keys")
    return [key for key in map(_key, listed[:MAX_KEYS]) if key is not None]


def _key(listed: Any) -> PyJWK | None:
    """A public key for one of ALGORITHMS, bound to it."""
    if not isinstance(listed, dict) or listed.get("use", "sig") != "sig":
        return None
    algorithm = {"RSA": "RS256", "EC": "ES256"}.get(str(listed.get("kty")))
    if algorithm is None or listed.get("alg", algorithm) != algorithm:
        return None
    try:
        return PyJWK(listed, algorithm)
    except (PyJWTError, ValueError, TypeError):
        # What it says may be of any form.
        log.warning("a key of the identity provider cannot be read")
        return None
