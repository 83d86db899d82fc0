"""Settings for code that runs inside the test process, as if it had been started with them."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from common import database, key_uses, queue, stripe_api
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
    if key_uses.gathered.cache_info().currsize:
        key_uses.gathered().close()
    for engine in (database.owner_engine, database.web_engine, database._statements):
        if engine.cache_info().currsize:
            engine().dispose()
    if queue.redis.cache_info().currsize:
        queue.redis().close()
    if stripe_api._connections.cache_info().currsize:
        stripe_api._connections().close()  # type: ignore[no-untyped-call]  # the package types all but this
    # Every cache of common/, found rather than listed: one that is added later must not keep an old setting.
    for name, module in list(sys.modules.items()):
        if name.startswith("common."):
            for member in list(vars(module).values()):
                if callable(clear := getattr(member, "cache_clear", None)):
                    clear()
