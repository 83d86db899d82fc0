"""No account sees, counts or touches another's rows: the database itself holds the web's role to that."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

import psycopg
import pytest
from psycopg import errors, sql
from sqlalchemy import text

from common import keys
from common.database import as_account, web_engine
from local.stack import Stack
from tests import databases, work
from tests.process_settings import process_settings
from worker.outcomes import record

# A row for an account in each table that no verb of ours writes yet.
ROWS: dict[str, LiteralString] = {
    "users": "INSERT INTO users (id, email) VALUES ({account}, {account}::text || '@example.org')",
    "members": "INSERT INTO members (account_id, user_id, role) VALUES ({account}, {account}, 'owner')",
    "sessions": "INSERT INTO sessions (id, user_id, account_id, page_hash, address, expires_at)"
    " VALUES ({account}, {account}, {account}, sha256({account}::text::bytea), '::1', now() + interval '1 day')",
    "mailed_tokens": "INSERT INTO mailed_tokens (id, account_id, expires_at)"
    " VALUES (gen_random_uuid(), {account}, now())",
    "invitations": "INSERT INTO invitations (id, account_id, email, role, expires_at)"
    " VALUES (gen_random_uuid(), {account}, 'x@example.org', 'owner', now())",
    "quotas": "INSERT INTO quotas (account_id, period_start, period_end)"
    " VALUES ({account}, '2026-01-01', '2026-02-01')",
    "idempotency_keys": "INSERT INTO idempotency_keys (account_id, key, request_hash)"
    " VALUES ({account}, 'once', '\\x00')",
    "events": "INSERT INTO events (id, account_id, type, data) VALUES (gen_random_uuid(), {account}, 'x', '{{}}')",
    "webhook_endpoints": "INSERT INTO webhook_endpoints (id, account_id, url, event_types, secret)"
    " VALUES (gen_random_uuid(), {account}, 'https://example.org', '{{x}}', 'secret')",
    "webhook_secrets": "INSERT INTO webhook_secrets (account_id, secret) VALUES ({account}, 'secret')",
    "deliveries": "INSERT INTO deliveries (id, account_id, event_id, endpoint_id, next_attempt_at)"
    " SELECT gen_random_uuid(), v.account_id, v.id, e.id, now() FROM events v"
    " JOIN webhook_endpoints e ON e.account_id = v.account_id WHERE v.account_id = {account}",
    "attempts": "INSERT INTO attempts (delivery_id, number, account_id, started_at, milliseconds)"
    " SELECT id, 1, account_id, now(), 1 FROM deliveries WHERE account_id = {account}",
    "audit_log": "INSERT INTO audit_log (id, account_id, actor, action)"
    " VALUES (gen_random_uuid(), {account}, 'command line', 'test')",
    "stripe_customers": "INSERT INTO stripe_customers (id, account_id) VALUES ('cus_' || {account}, {account})",
    "stripe_subscriptions": "INSERT INTO stripe_subscriptions"
    " (id, customer, account_id, status, started_at, ended, told_at, rank, told_by)"
    " VALUES ('sub_' || {account}, 'cus_' || {account}, {account}, 'active', now(), false, now(), 0, 'evt_1')",
    "stripe_invoices": "INSERT INTO stripe_invoices"
    " (id, customer, account_id, status, amount_due, created_at, ended, told_at, rank, told_by)"
    " VALUES ('in_' || {account}, 'cus_' || {account}, {account}, 'paid', 1, now(), true, now(), 0, 'evt_1')",
    "stripe_boundaries": "INSERT INTO stripe_boundaries (customer, at, account_id)"
    " VALUES ('cus_' || {account}, now(), {account})",
    "meter_outbox": "INSERT INTO meter_outbox"
    " (identifier, account_id, customer, meter, hour, portion, used_at, tokens)"
    " VALUES ({account}::text, {account}, 'cus_1', 'tokens', '2026-01-01T00:00Z', 1, '2026-01-01T00:59Z', 1)",
}


@dataclass(frozen=True)
class Tenants:
    """Two accounts with rows in every table that has accounts' rows, and how to reach them."""

    urls: dict[str, str]
    ours: UUID
    theirs: UUID
    # The column of each table that says whose a row is.
    tables: dict[str, str]


@pytest.fixture(scope="module")
def tenants(services: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    """The web's role has here, beside what the migrations grant it, every privilege on rows: policies alone hold it."""
    with databases.cloned(services) as urls:
        with process_settings(services.env | urls | {"STORAGE_URL": tmp_path_factory.mktemp("storage").as_uri()}):
            callers = [work.caller() for _ in range(2)]
            for caller in callers:
                work.bulk(caller, 3)
            for _ in callers:
                (claim,) = work.take(rows=2)
                record([work.outcome(claim, 0)])
        with psycopg.connect(urls["DATABASE_URL"]) as owner:
            for caller in callers:
                for statement in ROWS.values():
                    owner.execute(sql.SQL(statement).format(account=sql.Literal(caller.account_id)))
            owner.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO batchyard_web")
            tables = {name: "account_id" for (name,) in owner.execute(WITH_ACCOUNT)} | {"accounts": "id"}
        yield Tenants(urls, callers[0].account_id, callers[1].account_id, tables)


TABLES: LiteralString = (
    "SELECT c.relname FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace"
)
WITH_ACCOUNT: LiteralString = TABLES + (
    " AND EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'account_id')"
)


@pytest.fixture
def owner(tenants: Tenants) -> Iterator[psycopg.Connection]:
    with psycopg.connect(tenants.urls["DATABASE_URL"], autocommit=True) as connection:
        yield connection


@pytest.fixture
def web(tenants: Tenants) -> Iterator[psycopg.Connection]:
    """A transaction of the web's role with our account set; nothing of it stays."""
    with psycopg.connect(tenants.urls["WEB_DATABASE_URL"]) as connection:
        set_account(connection, str(tenants.ours))
        yield connection
        connection.rollback()


def set_account(connection: psycopg.Connection, account: str) -> None:
    connection.execute("SELECT set_config('batchyard.account_id', %s, true)", [account])


def count(connection: psycopg.Connection, table: str, column: str = "", account: UUID | None = None) -> int:
    query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))
    if account is not None:
        query += sql.SQL(" WHERE {} = {}").format(sql.Identifier(column), sql.Literal(account))
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def test_every_table_with_accounts_rows_has_a_policy_and_rows_of_both_accounts_here(
    tenants: Tenants, owner: psycopg.Connection
) -> None:
    for table, column in tenants.tables.items():
        policies = owner.execute(
            "SELECT c.relrowsecurity, count(p.oid) FROM pg_class c LEFT JOIN pg_policy p ON p.polrelid = c.oid"
            " WHERE c.oid = %s::regclass GROUP BY c.oid",
            [table],
        ).fetchone()
        assert policies is not None
        assert policies[0], f"row-level security is off for {table}"
        assert policies[1] == 1, f"{table} has {policies[1]} policies: several are joined by OR"
        for account in (tenants.ours, tenants.theirs):
            assert count(owner, table, column, account) > 0, f"add a row of {table} to ROWS, so that it is tested"


def test_of_claims_and_tables_without_accounts_rows_the_web_reads_the_models_alone(
    services: Stack, tenants: Tenants
) -> None:
    with psycopg.connect(services.env["DATABASE_URL"]) as connection:
        others = [name for (name,) in connection.execute(TABLES) if name not in tenants.tables]
        assert "platform" in others
        for table in (*others, "claims"):
            for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"):
                query = "SELECT has_table_privilege('batchyard_web', %s, %s)"
                allowed = (table, privilege) == ("models", "SELECT")
                assert connection.execute(query, [table, privilege]).fetchone() == (allowed,), (table, privilege)


def test_the_web_may_delete_truncate_and_refer_to_nothing(services: Stack, tenants: Tenants) -> None:
    with psycopg.connect(services.env["DATABASE_URL"]) as connection:
        for table in tenants.tables:
            for privilege in ("DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"):
                query = "SELECT has_table_privilege('batchyard_web', %s, %s)"
                assert connection.execute(query, [table, privilege]).fetchone() == (False,), (table, privilege)


def test_an_account_sees_its_own_rows_and_no_others(tenants: Tenants, web: psycopg.Connection) -> None:
    for table, column in tenants.tables.items():
        ours = count(web, table, column, tenants.ours)
        assert ours > 0, table
        assert count(web, table) == ours, f"{table} shows rows of others"


@pytest.mark.parametrize("account", ["", None])
def test_without_an_account_nothing_is_seen(tenants: Tenants, account: str | None) -> None:
    with psycopg.connect(tenants.urls["WEB_DATABASE_URL"]) as connection:
        if account is not None:
            set_account(connection, account)
        for table in tenants.tables:
            assert count(connection, table) == 0, table


@pytest.mark.parametrize("account", ["x", "%", "00000000", "' OR true --"])
def test_an_account_that_is_no_id_is_an_error_and_no_key_to_anything(tenants: Tenants, account: str) -> None:
    with psycopg.connect(tenants.urls["WEB_DATABASE_URL"]) as connection:
        set_account(connection, account)
        with pytest.raises(errors.InvalidTextRepresentation):
            count(connection, "batches")


def test_no_row_can_be_inserted_for_another_account(
    tenants: Tenants, owner: psycopg.Connection, web: psycopg.Connection
) -> None:
    for table, column in tenants.tables.items():
        name = sql.Identifier(table)
        theirs = sql.SQL("SELECT to_json(t) FROM {} t WHERE {} = {} LIMIT 1").format(
            name, sql.Identifier(column), sql.Literal(tenants.theirs)
        )
        found = owner.execute(theirs).fetchone()
        assert found is not None
        insert = sql.SQL("INSERT INTO {} SELECT * FROM json_populate_record(NULL::{}, %s)").format(name, name)
        with pytest.raises(errors.InsufficientPrivilege, match="row-level security"), web.transaction():
            web.execute(insert, [json.dumps(found[0])])


def test_no_row_of_another_account_can_be_changed_or_deleted(tenants: Tenants, web: psycopg.Connection) -> None:
    for table, column in tenants.tables.items():
        names = {"table": sql.Identifier(table), "column": sql.Identifier(column)}
        for statement in ("UPDATE {table} SET {column} = {column}", "DELETE FROM {table}"):
            where = sql.SQL(" WHERE {column} = {theirs}").format(theirs=sql.Literal(tenants.theirs), **names)
            changed = web.execute(sql.SQL(statement).format(**names) + where).rowcount
            assert changed == 0, f"{statement} changed rows of another account"


def test_no_row_can_be_given_to_another_account(tenants: Tenants, web: psycopg.Connection) -> None:
    for table, column in tenants.tables.items():
        give = sql.SQL("UPDATE {} SET {} = {}").format(
            sql.Identifier(table), sql.Identifier(column), sql.Literal(tenants.theirs)
        )
        with pytest.raises(errors.InsufficientPrivilege, match="row-level security"), web.transaction():
            web.execute(give)


@pytest.mark.parametrize(
    "statement",
    [
        "SET ROLE batchyard",
        "SET SESSION AUTHORIZATION batchyard",
        "ALTER ROLE batchyard_web SUPERUSER",
        "ALTER ROLE batchyard_web BYPASSRLS",
        "GRANT batchyard TO batchyard_web",
        "ALTER TABLE batches DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE batches OWNER TO batchyard_web",
        "DROP POLICY own_rows ON batches",
        "CREATE POLICY all_rows ON batches USING (true)",
        "CREATE OR REPLACE FUNCTION current_account() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'",
        "CREATE TABLE mine (x int)",
        "CREATE VIEW mine AS SELECT * FROM batches",
        "TRUNCATE batches CASCADE",
        "SELECT rolpassword FROM pg_authid",
        "COPY batches TO '/tmp/batches'",
        "COPY batches TO PROGRAM 'true'",
        "SELECT pg_read_file('/etc/passwd')",
        "SET row_security = off; SELECT * FROM batches",
    ],
)
def test_the_web_cannot_step_out_of_its_role(web: psycopg.Connection, statement: LiteralString) -> None:
    with pytest.raises((errors.InsufficientPrivilege, errors.WrongObjectType)):
        web.execute(statement)


def test_the_web_is_a_role_without_any_power_of_its_own(owner: psycopg.Connection) -> None:
    powers = owner.execute(
        "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles"
        " WHERE rolname = 'batchyard_web'"
    ).fetchone()
    assert powers == (False,) * 5
    owned = owner.execute("SELECT count(*) FROM pg_class WHERE relowner = 'batchyard_web'::regrole").fetchone()
    assert owned == (0,)
    groups = owner.execute("SELECT count(*) FROM pg_auth_members WHERE member = 'batchyard_web'::regrole").fetchone()
    assert groups == (0,)


def test_a_key_is_found_by_its_exact_prefix_alone_and_only_while_it_holds(
    services: Stack, tenants: Tenants, owner: psycopg.Connection
) -> None:
    with process_settings(services.env | tenants.urls):
        prefix = keys.create(tenants.theirs, "one more").rpartition("_")[0]
    with psycopg.connect(tenants.urls["WEB_DATABASE_URL"], autocommit=True) as web:
        query = "SELECT account_id FROM find_api_key(%s)"
        assert web.execute(query, [prefix]).fetchall() == [(tenants.theirs,)]
        nearly = (prefix[:-1], prefix + "x", prefix.upper(), f"{prefix}' OR 'a'='a")
        for wrong in ("", "%", "by_%", "by________", *nearly, None):
            assert web.execute(query, [wrong]).fetchall() == [], wrong
        owner.execute("UPDATE api_keys SET revoked_at = now() WHERE prefix = %s", [prefix])
        assert web.execute(query, [prefix]).fetchall() == []


def test_few_functions_are_all_the_web_does_with_the_owners_rights(owner: psycopg.Connection) -> None:
    functions = owner.execute(
        "SELECT proname, proconfig, has_function_privilege('public', oid, 'EXECUTE') FROM pg_proc"
        " WHERE prosecdef AND pronamespace = 'public'::regnamespace ORDER BY proname"
    ).fetchall()
    names = (
        "find_api_key",
        "find_identity",
        "find_session",
        "finished_beginning",
        "note_key_uses",
        "queue_position",
        "running_jobs",
    )
    assert functions == [(name, ["search_path=public"], False) for name in names]


def test_of_people_the_web_sees_the_addresses_of_its_own_accounts_members_and_nothing_that_opens_a_door(
    services: Stack, tenants: Tenants, owner: psycopg.Connection, web: psycopg.Connection
) -> None:
    assert web.execute("SELECT id FROM users").fetchall() == [(tenants.ours,)]
    owner.execute("UPDATE members SET removed_at = now() WHERE account_id = %s", [tenants.ours])
    assert web.execute("SELECT id FROM users").fetchall() == []
    owner.execute("UPDATE members SET removed_at = NULL")
    # By what the migrations grant.
    with psycopg.connect(services.env["WEB_DATABASE_URL"]) as bare:
        for statement in (
            "SELECT password_hash FROM users",
            "SELECT * FROM users",
            "SELECT * FROM sessions",
            "SELECT * FROM refresh_tokens",
            "SELECT * FROM mailed_tokens",
            "SELECT sealed FROM mails",
            "SELECT subject FROM identities",
            "UPDATE users SET email = 'x@example.org'",
            "INSERT INTO members (account_id, user_id, role) SELECT id, id, 'owner' FROM accounts",
        ):
            with pytest.raises(errors.InsufficientPrivilege), bare.transaction():
                bare.execute(statement)


def test_a_session_is_found_by_its_exact_id_or_hash_alone_and_only_while_it_lasts(
    tenants: Tenants, owner: psycopg.Connection
) -> None:
    query = "SELECT user_id FROM find_session(%s, %s)"
    with psycopg.connect(tenants.urls["WEB_DATABASE_URL"], autocommit=True) as web:
        (page_hash,) = owner.execute("SELECT page_hash FROM sessions WHERE id = %s", [tenants.theirs]).fetchall()[0]
        assert web.execute(query, [tenants.theirs, None]).fetchall() == [(tenants.theirs,)]
        assert web.execute(query, [None, page_hash]).fetchall() == [(tenants.theirs,)]
        for wrong in ((None, None), (None, b""), (None, page_hash[:-1]), (UUID(int=0), b"\0" * 32)):
            assert web.execute(query, wrong).fetchall() == []
        owner.execute("UPDATE sessions SET created_at = created_at - interval '2 days', expires_at = now()")
        assert web.execute(query, [tenants.theirs, page_hash]).fetchall() == []
        owner.execute("UPDATE sessions SET expires_at = now() + interval '1 day'")


def test_how_far_a_batch_has_come_is_told_to_its_own_account_alone(tenants: Tenants, web: psycopg.Connection) -> None:
    with psycopg.connect(tenants.urls["DATABASE_URL"]) as owner:
        batches: dict[UUID, UUID] = dict(owner.execute("SELECT account_id, id FROM batches").fetchall())
    query = "SELECT finished_beginning(%s)"
    assert web.execute(query, [batches[tenants.ours]]).fetchone() == (1,)
    assert web.execute(query, [batches[tenants.theirs]]).fetchone() == (None,)


def test_a_pooled_connection_forgets_its_account_with_its_transaction(services: Stack, tenants: Tenants) -> None:
    every = text("SELECT count(*) FROM batches")
    with process_settings(services.env | tenants.urls):
        with as_account(tenants.ours) as connection:
            assert connection.execute(every).scalar_one() == 1
        with pytest.raises(ZeroDivisionError), as_account(tenants.ours):
            _ = 1 / 0
        with web_engine().connect() as connection:
            # Only the pool that an engine has by default can count, and the type is of any.
            assert web_engine().pool.checkedin() == 0  # type: ignore[attr-defined]
            assert connection.execute(every).scalar_one() == 0
