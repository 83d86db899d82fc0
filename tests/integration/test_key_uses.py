"""When a key was last used is told without a write for each request."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import LiteralString
from uuid import UUID

import httpx2
import psycopg
import pytest

from common import accounts, key_uses, keys
from local.ports import free_port
from tests.databases import one
from tests.waiting import wait_for
from tests.web_client import WebClient, refused

ROOT = Path(__file__).resolve().parents[2]

UNUSED: LiteralString = "SELECT count(*) FROM api_keys WHERE last_used_at IS NULL OR last_used_at < created_at"


def last_used(database: psycopg.Connection, key_id: UUID) -> object:
    return one(database, "SELECT last_used_at FROM api_keys WHERE id = %s", key_id)[0]


def key_id_of(key: str) -> UUID:
    return keys.authenticate(key).key_id


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_uses_are_written_some_seconds_later_in_one_statement_for_all_keys(
    monkeypatch: pytest.MonkeyPatch, web: WebClient, database: psycopg.Connection
) -> None:
    monkeypatch.setattr(key_uses, "EVERY_SECONDS", 0.5)
    others = [keys.create(web.caller.account_id, "other") for _ in range(3)]
    clients = [web, *map(web.using, others)]
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: clients[number % 4].get("/v1/jobs").status_code, range(80)))
    took = time.monotonic() - began
    assert answers == [200] * 80
    wait_for(lambda: one(database, UNUSED), lambda found: found == (0,))
    # The transactions that wrote the four rows last; they are two where the uses fell on either side of a write, and
    # more only where a slow machine let the requests take longer than that.
    written = database.execute("SELECT DISTINCT xmin::text FROM api_keys").fetchall()
    assert len(written) <= 2 + took // key_uses.EVERY_SECONDS
    wait_for(threads, lambda found: not found)


def test_a_use_is_told_through_the_api(
    monkeypatch: pytest.MonkeyPatch, web: WebClient, database: psycopg.Connection
) -> None:
    monkeypatch.setattr(key_uses, "EVERY_SECONDS", 0.05)
    shown = f"/v1/api_keys/key_{web.caller.key_id.hex}"
    # Before the first request: it may be written while that is answered.
    assert last_used(database, web.caller.key_id) is None
    wait_for(lambda: web.get(shown).get_json()["last_used_at"], lambda moment: moment is not None)


def test_who_is_refused_has_used_no_key(web: WebClient, database: psycopg.Connection) -> None:
    prefix = one(database, "SELECT prefix FROM api_keys")[0]
    refused(web.using(f"{prefix}_{'A' * 43}").get("/v1/jobs"), 401)
    key_uses.gathered().close()
    assert last_used(database, web.caller.key_id) is None


def test_a_moment_never_goes_back_whichever_process_writes_last(web: WebClient, database: psycopg.Connection) -> None:
    database.execute("UPDATE api_keys SET last_used_at = now() + interval '1 hour'")
    before = last_used(database, web.caller.key_id)
    web.get("/v1/jobs")
    key_uses.gathered().close()
    assert last_used(database, web.caller.key_id) == before


def test_while_the_database_is_away_uses_stay_and_are_written_after(
    monkeypatch: pytest.MonkeyPatch, web: WebClient, database: psycopg.Connection
) -> None:
    monkeypatch.setattr(key_uses, "EVERY_SECONDS", 0.05)
    database.execute("ALTER FUNCTION note_key_uses RENAME TO note_key_uses_away")
    web.get("/v1/jobs")
    # Whatever the reason, a write that fails is tried again.
    assert threads()
    database.execute("ALTER FUNCTION note_key_uses_away RENAME TO note_key_uses")
    wait_for(lambda: last_used(database, web.caller.key_id), lambda used: used is not None)
    wait_for(threads, lambda found: not found)


@contextmanager
def gunicorn(env: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Two web processes of gunicorn's, forked and tended as in production."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-c", "web/gunicorn.py", "wsgi:app"]
    settings = {"PORT": str(port), "WEB_PROCESSES": "2", "WEB_REQUESTS_AT_ONCE": "4"}
    server = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **env, **settings})
    try:
        yield server, f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait(10)


def test_a_process_that_ends_writes_what_it_has(settings: dict[str, str], database: psycopg.Connection) -> None:
    key = keys.create(accounts.create("Ann", "pro").id, "test")
    with gunicorn(settings) as (server, url), httpx2.Client(base_url=url, trust_env=False) as http:
        headers = {"Authorization": f"Bearer {key}"}

        def asked() -> int:
            try:
                return http.get("/v1/jobs", headers=headers).status_code
            except httpx2.TransportError:
                return 0

        wait_for(asked, lambda status: status == 200)
        assert last_used(database, key_id_of(key)) is None
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    assert last_used(database, key_id_of(key)) is not None
