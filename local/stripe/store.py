"""What the stand-in knows, in one SQLite file: Stripe's objects as JSON, and tables for the rest.

Each call is one transaction, and calls do not overlap, as all of them run on one thread. The file outlives the process
however it dies; against a crash of the machine it is not made safe.
"""

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Object = dict[str, Any]

# A name that begins so is ours: no customer of the API is shown it.
OURS = "_"

SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, customer TEXT,
    body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS objects_by_kind ON objects (kind, customer);
CREATE TABLE IF NOT EXISTS meter_events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, identifier TEXT NOT NULL, event_name TEXT NOT NULL, customer TEXT NOT NULL,
    value INTEGER NOT NULL, timestamp INTEGER NOT NULL, received INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS meter_events_by_identifier ON meter_events (identifier);
CREATE INDEX IF NOT EXISTS meter_events_by_customer ON meter_events (customer, event_name, timestamp);
CREATE TABLE IF NOT EXISTS attempts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, identifier TEXT NOT NULL, customer TEXT NOT NULL, value TEXT NOT NULL,
    timestamp TEXT NOT NULL, outcome TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS attempts_by_identifier ON attempts (identifier);
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, request TEXT NOT NULL, status INTEGER NOT NULL, body TEXT NOT NULL, made REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS deliveries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL, endpoint TEXT NOT NULL, state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL, told TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (state, due);
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class Store:
    """`path` None keeps everything in memory."""

    def __init__(self, path: Path | None) -> None:
        # While what was due in the past is done, it is the time at which it was due.
        self.frozen_at: int | None = None
        if path is not None:
            # Only its owner can read it: it holds the secrets of webhook endpoints.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self._connection = sqlite3.connect(":memory:" if path is None else path, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.executescript(SCHEMA)

    def close(self) -> None:
        self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """What is done within is kept whole, or, when an error leaves it, not at all."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def run(self, sql: str, *values: object) -> list[sqlite3.Row]:
        return self._connection.execute(sql, values).fetchall()

    def put(self, object: Object) -> Object:
        """Keeps a new object, or the new state of one; gives it back."""
        self.run(
            "INSERT INTO objects (id, kind, customer, body) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET body = excluded.body, customer = excluded.customer",
            object["id"],
            object["object"],
            object.get("customer"),
            json.dumps(object),
        )
        return object

    def find(self, kind: str, id: str | None) -> Object | None:
        found = self.run("SELECT body FROM objects WHERE id = ? AND kind = ?", id, kind)
        return _loaded(found[0]) if found else None

    def any(self, id: str) -> Object | None:
        """Whatever has that id."""
        found = self.run("SELECT body FROM objects WHERE id = ?", id)
        return _loaded(found[0]) if found else None

    def all(self, kind: str, customer: str | None = None) -> list[Object]:
        """The newest first."""
        found = self.run(
            "SELECT body FROM objects WHERE kind = ?1 AND (?2 IS NULL OR customer = ?2) ORDER BY seq DESC",
            kind,
            customer,
        )
        return [_loaded(row) for row in found]

    def unfinished(self, kind: str) -> list[Object]:
        """Those whose status is one that time may still change."""
        found = self.run(
            "SELECT body FROM objects WHERE kind = ? AND json_extract(body, '$.status')"
            " IN ('active', 'past_due', 'incomplete', 'draft', 'open') ORDER BY seq",
            kind,
        )
        return [_loaded(row) for row in found]

    def setting(self, name: str, default: str) -> str:
        found = self.run("SELECT value FROM settings WHERE name = ?", name)
        return str(found[0]["value"]) if found else default

    def set(self, name: str, value: str) -> None:
        self.run("INSERT OR REPLACE INTO settings VALUES (?, ?)", name, value)


def _loaded(row: sqlite3.Row) -> Object:
    loaded: Object = json.loads(row["body"])
    return loaded
