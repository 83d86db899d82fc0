"""Identifiers: a time-ordered UUID (version 7, RFC 9562), shown with the prefix of what it names."""

import os
import time
from typing import Literal
from uuid import UUID

from common.errors import InvalidRequest

Prefix = Literal["acct_", "key_", "batch_", "job_", "file-", "evt_", "audit_", "we_", "dlv_", "user_", "sess_", "inv_"]


def new_id() -> UUID:
    """A new UUIDv7: 48 bits of milliseconds, then 74 random bits. Ids of one process and millisecond are unordered."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10))
    value = milliseconds << 80 | 0x7 << 76 | (random >> 68 & 0xFFF) << 64 | 0b10 << 62 | random & (1 << 62) - 1
    return UUID(int=value)


def show(prefix: Prefix, value: UUID) -> str:
    return prefix + value.hex


def parse(prefix: Prefix, shown: str) -> UUID | None:
    """The UUID of an id as `show` writes it, or None for anything else: an unknown id is not found, never malformed."""
    digits = shown.removeprefix(prefix)
    if shown == digits or len(digits) != 32 or not set(digits) <= set("0123456789abcdef"):
        return None
    return UUID(hex=digits)


def parse_wanted(prefix: Prefix, shown: str | None, param: str) -> UUID | None:
    """What a list is to be of, by the id that a query names, or None where it names none. Raises InvalidRequest."""
    found = parse(prefix, shown) if shown is not None else None
    if found is None and shown is not None:
        raise InvalidRequest(f"{param} is an id that begins with {prefix}.", param=param)
    return found


def parse_after(prefix: Prefix, after: str | None) -> UUID | None:
    """Where a page of a list begins: behind the id `after`, or None, at the start. Raises InvalidRequest."""
    found = None if after is None else parse(prefix, after)
    if found is None and after is not None:
        raise InvalidRequest(f"after is the id of the last {prefix.rstrip('_-')} of the page before.", param="after")
    return found
