"""Keys that are taken as they were when this process last looked them up, by a statement that finds out whether they
still are so before it does anything: a look-up of its own would be a second trip to the database.
"""

from collections.abc import Sequence
from typing import Any, LiteralString, NamedTuple


class Remembered(NamedTuple):
    """A key and its account as they were. `version` is another one when anything of them is: also when they are in
    another billing period."""

    prefix: str
    version: int


class NotConfirmed(Exception):
    """Nothing was done: the key has to be looked up first."""


def parameters(remembered: Sequence[Remembered]) -> dict[str, Any]:
    """Those of CONFIRMED."""
    return {"prefixes": [key.prefix for key in remembered], "versions": [key.version for key in remembered]}


# Of a key as `find_api_key` gives it.
VERSION: LiteralString = "hash_record_extended(found, 0)"

# Whether all these keys are as they were, and none of them has expired.
CONFIRMED: LiteralString = f"""
    SELECT coalesce(bool_and(version IS NOT DISTINCT FROM (
        SELECT {VERSION} FROM find_api_key(prefix) AS found WHERE expires_at IS NULL OR expires_at > now()
    )), true)
    FROM unnest(%(prefixes)s::text[], %(versions)s::bigint[]) AS remembered (prefix, version)
"""
