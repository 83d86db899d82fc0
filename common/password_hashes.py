"""Passwords as the database holds them: Argon2id, with the parameters that RFC 9106, section 4, has for little memory:
64 MiB, three passes, four lanes."""

import unicodedata
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

from common.errors import InvalidRequest, Unavailable
from common.json_text import is_storable
from common.shared_thread import in_native_thread

# NIST SP 800-63B wants at least 8 and room for 64; more than the most would only make us work.
MIN_CHARACTERS = 10
MAX_CHARACTERS = 1_024
# Each hash takes 64 MiB and a tenth of a second of a processor or more: many at once would take a host's memory, and no
# less time.
HASHES_AT_ONCE = 2
# So many may wait for that, so that whoever has many passwords checked leaves room for the other requests.
MAX_WAITING = 8
WAIT_SECONDS = 10.0

_hasher = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
# Nobody's password: it takes as long to compare with as any other, and what a password comes to is not all zeros.
_NOBODYS = "$argon2id$v={}$m={},t={},p={}${}${}".format(
    RFC_9106_LOW_MEMORY.version, _hasher.memory_cost, _hasher.time_cost, _hasher.parallelism, "A" * 22, "A" * 43
)
_room = BoundedSemaphore(HASHES_AT_ONCE)
_line = BoundedSemaphore(MAX_WAITING)


def check(password: str, param: str = "password") -> None:
    """Raises InvalidRequest for one that is too short or too long; it is counted before anything is done with it."""
    if not MIN_CHARACTERS <= len(password) <= MAX_CHARACTERS:
        raise InvalidRequest(
            f"A password has {MIN_CHARACTERS} to {MAX_CHARACTERS:,} characters.", param=param, code="bad_password"
        )
    if not is_storable(password):
        raise InvalidRequest("The password holds what is no character.", param=param, code="bad_password")


def make(password: str, param: str = "password") -> str:
    """What is kept of a password. Raises InvalidRequest as check does, and Unavailable where too many are hashed."""
    check(password, param)
    with _Turn():
        return in_native_thread(_hasher.hash, _normal(password))


def matches(password: str, kept: str | None) -> bool:
    """Whether it is the password. It takes as long where nothing is kept to compare it with, and for a password that
    nobody can have. Raises Unavailable as make does."""
    possible = MIN_CHARACTERS <= len(password) <= MAX_CHARACTERS and is_storable(password)
    with _Turn():
        try:
            in_native_thread(_hasher.verify, kept or _NOBODYS, _normal(password) if possible else "")
        except (VerificationError, InvalidHashError):
            return False
    return possible and kept is not None


class _Turn:
    """Room for one hash. Raises Unavailable where too many wait for it, or for too long."""

    def __enter__(self) -> None:
        if not _line.acquire(blocking=False):
            raise _busy()
        try:
            if not _room.acquire(timeout=WAIT_SECONDS):
                raise _busy()
        finally:
            _line.release()

    def __exit__(self, *_: object) -> None:
        _room.release()


def _busy() -> Unavailable:
    return Unavailable("Too many passwords are being checked: send the request again.", code="busy")


def _normal(password: str) -> str:
    """The same for each way of writing the same characters, which another keyboard may have (RFC 8265)."""
    return unicodedata.normalize("NFC", password)
