"""Gives a fresh stack one account on each plan and an operator's, each with an API key, and the stand-in for Stripe
what is sold.

Run as `python -m local.seed` with the stack's settings. Reads the keys of an earlier start from stdin as JSON, keeps
those that are still accepted, and prints all of them as JSON.
"""

import json
import os
import sys
from dataclasses import dataclass

from common import accounts, billing_setup, keys
from common.errors import AuthenticationFailed, PermissionDenied
from local.environment import STANDIN_KEY


@dataclass(frozen=True)
class Seed:
    """One account: the variable its key goes by in the env file, its name, its plan and the key's scopes."""

    variable: str
    name: str
    plan: str
    scopes: tuple[str, ...] = keys.DEFAULT_SCOPES


SEEDS = (
    Seed("API_KEY", "Local pro", "pro"),
    Seed("FREE_API_KEY", "Local free", "free"),
    Seed("TEAM_API_KEY", "Local team", "team"),
    Seed("ADMIN_API_KEY", "Local operator", "pro", keys.SCOPES),
)


def main() -> None:
    known = json.load(sys.stdin)
    # Only at a stand-in that the stack has started: what a person has at Stripe is theirs to set up.
    if os.environ.get("STRIPE_SECRET_KEY") == STANDIN_KEY:
        for _ in billing_setup.run():
            pass
    json.dump({seed.variable: _key_of(seed, known.get(seed.variable)) for seed in SEEDS}, sys.stdout)


def _key_of(seed: Seed, known: str | None) -> str:
    if known is not None and _accepted(known):
        return known
    return keys.create(accounts.create(seed.name, seed.plan).id, "local stack", seed.scopes)


def _accepted(key: str) -> bool:
    try:
        keys.authenticate(key)
    except AuthenticationFailed:
        return False
    except PermissionDenied:
        # Suspended since: it is theirs all the same.
        return True
    return True


if __name__ == "__main__":
    main()
