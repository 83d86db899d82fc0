"""The schema: made from nothing, made once, and refusing rows that cannot be."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg import errors, sql

from common import accounts
from local.stack import Stack
from migrations.upgrade import upgrade
from tests import databases, work
from tests.process_settings import process_settings
from worker.outcomes import record

ROOT = Path(__file__).resolve().parents[2]

# All that a migration makes, as lines that do not depend on when or in which order it was made.
SCHEMA: tuple[LiteralString, ...] = (
    "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns"
    " WHERE table_schema = 'public'",
    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = 'public'::regnamespace",
    "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "SELECT tablename, policyname, roles::text, cmd, qual, with_check FROM pg_policies",
    "SELECT relname, relkind::text, relrowsecurity, reloptions::text, relacl::text FROM pg_class"
    " WHERE relnamespace = 'public'::regnamespace",
    "SELECT proname, prosrc, prosecdef, proacl::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
    "SELECT version_num FROM alembic_version",
)


def schema(url: str) -> list[set[tuple[object, ...]]]:
    with psycopg.connect(url) as connection:
        return [set(connection.execute(query).fetchall()) for query in SCHEMA]


def test_several_hosts_that_migrate_an_empty_database_at_once_make_the_schema_once(
    services: Stack, env: dict[str, str]
) -> None:
    command = [sys.executable, "-m", "migrations"]
    with databases.empty(services) as urls:
        hosts = [subprocess.Popen(command, cwd=ROOT, env={**os.environ, **env, **urls}) for _ in range(2)]
        assert [host.wait(timeout=60) for host in hosts] == [0, 0]
        made = schema(urls["DATABASE_URL"])
    assert made == schema(env["DATABASE_URL"])
    assert all(made)


def test_migrating_again_changes_nothing(env: dict[str, str]) -> None:
    before = schema(env["DATABASE_URL"])
    with process_settings(env):
        account_id = work.caller().account_id
        for _ in range(2):
            upgrade()
        assert accounts.get(account_id).plan == "pro"
    assert schema(env["DATABASE_URL"]) == before


def test_the_web_may_not_be_given_another_role(env: dict[str, str]) -> None:
    owners = env | {"WEB_DATABASE_URL": env["DATABASE_URL"]}
    with process_settings(owners), pytest.raises(ValueError, match="batchyard_web"):
        upgrade()


# What breaks one rule each. {batch} has three rows, all claimed, of which the first has its result.
IMPOSSIBLE: dict[str, tuple[LiteralString, type[psycopg.Error]]] = {
    "a batch in no known state": ("UPDATE batches SET state = 'done' WHERE id = {batch}", errors.CheckViolation),
    "a batch of no known kind": ("UPDATE batches SET kind = 'xlsx' WHERE id = {batch}", errors.CheckViolation),
    "a batch for another endpoint": ("UPDATE batches SET endpoint = '/v1' WHERE id = {batch}", errors.CheckViolation),
    "a cursor past the end": ("UPDATE batches SET cursor = 4 WHERE id = {batch}", errors.CheckViolation),
    "a cursor before the start": ("UPDATE batches SET cursor = -1 WHERE id = {batch}", errors.CheckViolation),
    "fewer than no rows returned": ("UPDATE batches SET returned = -1 WHERE id = {batch}", errors.CheckViolation),
    "more outcomes than rows": ("UPDATE batches SET succeeded = 4 WHERE id = {batch}", errors.CheckViolation),
    "an end without a time": ("UPDATE batches SET state = 'failed' WHERE id = {batch}", errors.CheckViolation),
    "a time without an end": ("UPDATE batches SET ended_at = now() WHERE id = {batch}", errors.CheckViolation),
    "completed with rows left": (
        "UPDATE batches SET state = 'completed', ended_at = now() WHERE id = {batch}", errors.CheckViolation,
    ),
    "a budget of nothing": ("UPDATE batches SET max_cost = 0 WHERE id = {batch}", errors.CheckViolation),
    "a batch of no account": (
        "UPDATE batches SET account_id = gen_random_uuid() WHERE id = {batch}", errors.ForeignKeyViolation,
    ),
    "a job twice": ("INSERT INTO jobs SELECT * FROM jobs WHERE batch_id = {batch}", errors.UniqueViolation),
    "a result twice": ("INSERT INTO results SELECT * FROM results", errors.UniqueViolation),
    "a receipt twice": ("INSERT INTO usage_records SELECT * FROM usage_records", errors.UniqueViolation),
    "a result of no known outcome": ("UPDATE results SET outcome = 'pending'", errors.CheckViolation),
    "a success without an answer": ("UPDATE results SET body = NULL", errors.CheckViolation),
    "a success with another status": ("UPDATE results SET status_code = 500", errors.CheckViolation),
    "a success with an error": ("UPDATE results SET error_code = 'x'", errors.CheckViolation),
    "a failure without a reason": ("UPDATE results SET outcome = 'failed'", errors.CheckViolation),
    "fewer than no attempts": ("UPDATE results SET attempts = -1", errors.CheckViolation),
    "more cached than sent": ("UPDATE usage_records SET cached_tokens = prompt_tokens + 1", errors.CheckViolation),
    "fewer than no tokens": ("UPDATE usage_records SET completion_tokens = -1", errors.CheckViolation),
    "a cost below nothing": ("UPDATE usage_records SET cost = -1", errors.CheckViolation),
    "a cost without a price": ("UPDATE usage_records SET cached_price = NULL", errors.CheckViolation),
    "a price without a cost": ("UPDATE usage_records SET cost = NULL", errors.CheckViolation),
    "a claim of no rows": ("UPDATE claims SET end_seq = first_seq", errors.CheckViolation),
    "a claim of more than its rows": ("UPDATE claims SET pending = 4", errors.CheckViolation),
    "a claim in no known state": ("UPDATE claims SET state = 'lost'", errors.CheckViolation),
    "a claim of no batch": ("UPDATE claims SET batch_id = gen_random_uuid()", errors.ForeignKeyViolation),
    "a key with no whole hash": ("UPDATE api_keys SET secret_hash = '\\x00'", errors.CheckViolation),
    "a key without its account": ("DELETE FROM accounts", errors.ForeignKeyViolation),
    "an account without a name": ("UPDATE accounts SET name = ''", errors.CheckViolation),
    "two keys of one prefix": (
        "INSERT INTO api_keys SELECT gen_random_uuid(), account_id, name, prefix, secret_hash, scopes FROM api_keys",
        errors.UniqueViolation,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def impossible(services: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[psycopg.Connection]:
    """A database with a claimed batch of three rows, of which one has its result. No test changes it."""
    with databases.cloned(services) as urls:
        with process_settings(services.env | urls | {"STORAGE_URL": tmp_path_factory.mktemp("storage").as_uri()}):
            work.bulk(work.caller("pro"), 3)
            (claim,) = work.take()
            record([work.outcome(claim, 0)])
        with psycopg.connect(urls["DATABASE_URL"]) as connection:
            yield connection


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_the_database_refuses_what_cannot_be(impossible: psycopg.Connection, name: str) -> None:
    statement, error = IMPOSSIBLE[name]
    row = impossible.execute("SELECT id FROM batches").fetchone()
    assert row is not None
    with pytest.raises(error):
        impossible.execute(sql.SQL(statement).format(batch=sql.Literal(row[0])))
    impossible.rollback()
