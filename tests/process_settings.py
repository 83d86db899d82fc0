"""Settings for code that runs inside the test process, as if it had been started with them."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from common import database, key_uses, queue, stripe_api
from common.once import Once
from common.settings import Settings


@contextmanager
def process_settings(env: Mapping[str, str]) -> Iterator[None]:
    """Within it this process has these settings and no others; then all that was made from them is closed."""
    with pytest.MonkeyPatch.context() as patch:
        for name in Settings.model_fields:
            patch.delenv(name.upper(), raising=False)
        for name, value in env.items():
            patch.setenv(name, value)
        _forget()
        try:
            yield
        finally:
            _forget()


def _forget() -> None:
    if (uses := key_uses.gathered.made()) is not None:
        uses.close()
    for engine in (database.owner_engine, database.web_engine, database._statements):
        if (pool := engine.made()) is not None:
            pool.dispose()
    if (redis := queue.redis.made()) is not None:
        redis.close()
    if (connections := stripe_api._connections.made()) is not None:
        connections.close()  # type: ignore[no-untyped-call]  # the package types all but this
    # Every cache of common/, found rather than listed: one that is added later must not keep an old setting.
    for name, module in list(sys.modules.items()):
        if name.startswith("common."):
            for member in list(vars(module).values()):
                if isinstance(member, Once):
                    member.forget()
                elif callable(clear := getattr(member, "cache_clear", None)):
                    clear()
