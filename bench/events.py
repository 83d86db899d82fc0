"""`python -m bench.events SECONDS`: events at a steady pace for endpoints of which some hang, and how late they come to
the others, as JSON. In a process of its own, with the settings of the stack that delivers them."""

import json
import sys
import time
from uuid import UUID

import psycopg

from common import queue, webhook_secrets
from common.settings import settings
from tests import receivers, webhooks
from tests.receivers import Receiver, hang
from tests.waiting import wait_for
from tests.webhooks import rows

PER_SECOND = 200
AT_ONCE = 10
ENDPOINTS = 50
HANGING = 10
ACCOUNTS = 5
LAST_SECONDS = 60


def main() -> None:
    seconds = float(sys.argv[1])
    with (
        receivers.running() as receiver,
        psycopg.connect(settings().database_url, autocommit=True) as database,
    ):
        targets = _targets(database, receiver)
        began = time.monotonic()
        events = int(seconds * PER_SECOND)
        for number in range(0, events, AT_ONCE):
            told = [targets[each % ENDPOINTS] for each in range(number, number + AT_ONCE)]
            webhooks.job_events(database, [account for account, _ in told], [url for _, url in told])
            queue.announce_deliveries()
            # Between two groups, at the pace that is asked.
            time.sleep(max(0.0, began + (number + AT_ONCE) / PER_SECOND - time.monotonic()))
        rate = events / (time.monotonic() - began)
        late = _late(database, receiver)
        _forget(database)
    print(json.dumps({"late": late, "per_second": rate}))


def _targets(database: psycopg.Connection, receiver: Receiver) -> list[tuple[UUID, str]]:
    accounts = [webhooks.account(f"Told {number}") for number in range(ACCOUNTS)]
    for account in accounts:
        secret = webhook_secrets.seal(webhooks.SECRET)
        database.execute("INSERT INTO webhook_secrets (account_id, secret) VALUES (%s, %s)", [account, secret])
    made = []
    for number in range(ENDPOINTS):
        url = receiver.at(f"/{number}", *([hang] if number < HANGING else []))
        account = accounts[number % ACCOUNTS]
        webhooks.endpoint(database, account, url, (), origin="submission", secret=None)
        made.append((account, url))
    return made


def _late(database: psycopg.Connection, receiver: Receiver) -> list[float]:
    """Seconds from each event to its arrival, of all for endpoints that do not hang. Fails where one does not come."""
    written = {f"evt_{row['id'].hex}": row["created_at"].timestamp() for row in rows(database, _HEALTHY, HANGING)}

    def arrived() -> dict[str, float]:
        return {request.webhook_id: request.at for request in list(receiver.received)}

    found = wait_for(arrived, lambda found: written.keys() <= found.keys(), LAST_SECONDS)
    return [found[event_id] - at for event_id, at in written.items()]


def _forget(database: psycopg.Connection) -> None:
    """Nothing of it goes on."""
    database.execute("DELETE FROM events WHERE id IN (SELECT event_id FROM deliveries)")
    database.execute("DELETE FROM webhook_endpoints")


_HEALTHY = """
    SELECT v.id, v.created_at FROM deliveries d JOIN events v ON v.id = d.event_id
    JOIN webhook_endpoints e ON e.id = d.endpoint_id WHERE (regexp_match(e.url, '[0-9]+$'))[1]::int >= %s
"""


if __name__ == "__main__":
    main()
