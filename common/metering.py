"""Metering: receipts become portions of the outbox, by account and hour, which is what Stripe is told. What counts are
prompt and completion tokens, as in quotas.

An hour's portions always come to its receipts: what a pass adds is the difference, however late a receipt came. So a
pass may be repeated, missed, or run by several processes, and nothing is counted twice or left out.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from common import ids
from common.database import as_owner
from common.settings import settings
from common.sql_arrays import arrays
from common.stripe_prices import METER

log = logging.getLogger(__name__)

ROLLUP_LOCK = 7_201_006
HOUR = timedelta(hours=1)
# Receipts that were recorded late, as after an outage of PostgreSQL, are found by each pass for so long ...
LOOK_BACK = timedelta(hours=6)
# ... and once a day for as long as Stripe takes them: an event may be 35 days old. The last hours are for its sending.
WINDOW = timedelta(days=35)
WHOLE_LOOK_BACK = WINDOW - timedelta(hours=12)
BETWEEN_WHOLE_LOOKS = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an hour that is billed in one period: the whole hour, where none ends in it. `more` are the tokens of
    receipts that no portion tells of, below 0 where portions tell of more; `of_hour` is their sum over the pieces."""

    account_id: UUID
    customer: str
    hour: datetime
    begins_at: datetime
    ends_at: datetime
    more: int
    of_hour: int
    portions: int


def roll_up(*, running_hour: bool = False) -> int | None:
    """One pass over the hours that are over, and once a day over all that Stripe takes; with the running hour over all
    too. Returns how many portions there are to be sent because of it, or None where another pass is under way."""
    with as_owner() as connection:
        if not connection.execute(_TRY_LOCK, {"lock": ROLLUP_LOCK}).scalar_one():
            return None
        clock = connection.execute(_CLOCK, {"between": BETWEEN_WHOLE_LOOKS}).one()
        whole = running_hour or clock.whole_look_due
        portions = list(_portions(_untold(connection, clock.now, whole, running_hour), clock.now))
        if portions:
            columns = {name: [portion[name] for portion in portions] for name in portions[0]}
            connection.execute(_INSERT, arrays(columns) | {"meter": METER})
        if whole:
            connection.execute(_LOOKED_BACK)
    return len(portions)


def _untold(connection: Connection, now: datetime, whole: bool, running_hour: bool) -> Sequence[Piece]:
    """The pieces of the hours of which not everything is told."""
    closed = now - timedelta(seconds=settings().meter_delay_seconds)
    parameters = {
        "meter": METER,
        "since": _hour(now - (WHOLE_LOOK_BACK if whole else LOOK_BACK)),
        # What a period's end closes is not left for the end of its hour: Stripe makes the invoice final an hour later.
        "closed": now if running_hour else closed,
        "until": now if running_hour else _hour(closed),
    }
    return [Piece(**row._mapping) for row in connection.execute(_UNTOLD, parameters)]


def _portions(pieces: Sequence[Piece], now: datetime) -> Iterator[dict[str, Any]]:
    """What is to be told beside what was. Where a period's end became known after its hour was told, one piece has too
    much already: the others get less, so that the hour comes to its receipts."""
    for (account_id, hour), found in groupby(pieces, key=lambda piece: (piece.account_id, piece.hour)):
        of_hour = list(found)
        left, portion = of_hour[0].of_hour, of_hour[0].portions
        for piece in of_hour:
            tokens = min(max(0, piece.more), left)
            if tokens > 0:
                left -= tokens
                portion += 1
                yield {
                    "identifier": f"{ids.show('acct_', account_id)}-{METER}-{hour.astimezone(UTC):%Y%m%d%H}-{portion}",
                    "account_id": account_id,
                    "customer": piece.customer,
                    "hour": hour,
                    "portion": portion,
                    "used_at": _told_time(piece, now),
                    "tokens": tokens,
                }


def _told_time(piece: Piece, now: datetime) -> datetime:
    """The last whole second of the piece that is over: never at the boundary of two periods, nor in the future."""
    last = min(piece.ends_at, now) - timedelta(seconds=1)
    return max(piece.begins_at, last.replace(microsecond=0))


def _hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:lock)")

_CLOCK = text("""
    SELECT clock_timestamp() AS now,
        coalesce(looked_back_at < clock_timestamp() - CAST(:between AS interval), true) AS whole_look_due
    FROM metering
""")

_LOOKED_BACK = text("UPDATE metering SET looked_back_at = clock_timestamp()")

# A piece is numbered by how many boundaries of periods are before it. Receipts are told once, whoever was the customer
# of the account then.
_UNTOLD = text("""
    WITH metered AS MATERIALIZED (
        SELECT a.id, a.stripe_customer_id AS customer, greatest(a.metered_from, CAST(:since AS timestamptz)) AS since,
            ARRAY(
                SELECT DISTINCT b.at FROM stripe_boundaries b
                WHERE b.account_id = a.id AND b.at >= :since ORDER BY b.at
            ) AS boundaries
        FROM accounts a WHERE a.stripe_customer_id IS NOT NULL AND a.metered_from < :closed
    ), used AS (
        SELECT m.id, date_trunc('hour', u.created_at, 'UTC') AS hour, width_bucket(u.created_at, m.boundaries) AS piece,
            sum(CAST(u.prompt_tokens AS bigint) + u.completion_tokens) AS tokens
        FROM metered m
            CROSS JOIN LATERAL (
                SELECT greatest(:until, max(b)) AS until FROM unnest(m.boundaries) AS b WHERE b <= :closed
            ) AS over
            JOIN usage_records u ON u.account_id = m.id AND u.created_at >= m.since AND u.created_at < over.until
        GROUP BY 1, 2, 3
    ), told AS (
        SELECT m.id, o.hour, width_bucket(o.used_at, m.boundaries) AS piece, sum(o.tokens) AS tokens
        FROM metered m JOIN meter_outbox o ON o.account_id = m.id AND o.meter = :meter
            AND o.hour >= date_trunc('hour', m.since, 'UTC')
        GROUP BY 1, 2, 3
    ), compared AS (
        SELECT id, hour, piece, coalesce(used.tokens, 0) - coalesce(told.tokens, 0) AS more,
            sum(coalesce(used.tokens, 0) - coalesce(told.tokens, 0)) OVER (PARTITION BY id, hour) AS of_hour
        FROM used FULL JOIN told USING (id, hour, piece)
    )
    SELECT m.id AS account_id, m.customer, c.hour, greatest(c.hour, m.boundaries[c.piece]) AS begins_at,
        least(c.hour + interval '1 hour', m.boundaries[c.piece + 1]) AS ends_at, CAST(c.more AS bigint) AS more,
        CAST(c.of_hour AS bigint) AS of_hour, (
            SELECT coalesce(max(o.portion), 0) FROM meter_outbox o
            WHERE o.account_id = m.id AND o.meter = :meter AND o.hour = c.hour
        ) AS portions
    FROM compared c JOIN metered m ON m.id = c.id
    WHERE c.of_hour > 0 ORDER BY m.id, c.hour, c.piece
""")

_INSERT = text("""
    INSERT INTO meter_outbox (identifier, account_id, customer, meter, hour, portion, used_at, tokens)
    SELECT identifier, account_id, customer, :meter, hour, portion, used_at, tokens
    FROM unnest(CAST(:identifier AS text[]), CAST(:account_id AS uuid[]), CAST(:customer AS text[]),
        CAST(:hour AS timestamptz[]), CAST(:portion AS int[]), CAST(:used_at AS timestamptz[]),
        CAST(:tokens AS bigint[])) AS p (identifier, account_id, customer, hour, portion, used_at, tokens)
""")
