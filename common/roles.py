"""What each role of an account's members may do: the one table, for the API and the pages alike."""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

Role = Literal["owner", "developer", "billing"]
ROLES: Sequence[Role] = get_args(Role)

# Scopes are those of keys, and `members`, which no key has: whoever may say who is in an account may do anything in it.
SCOPES: Mapping[Role, tuple[str, ...]] = {
    "owner": ("jobs", "batches", "files", "webhooks", "usage", "keys", "billing", "members"),
    "developer": ("jobs", "batches", "files", "webhooks", "usage", "keys"),
    "billing": ("billing", "usage"),
}


def scopes_of(role: Role | None) -> tuple[str, ...]:
    """What a person with this role may do; without an account nobody has one."""
    return SCOPES[role] if role is not None else ()
