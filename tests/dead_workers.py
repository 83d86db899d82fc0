"""What dead workers held, given back at once: a lease's own time would be long for a test."""

import psycopg

from common import queue
from local.stack import Stack
from tests.process_settings import process_settings
from worker import leases


def end_their_leases(stack: Stack) -> None:
    """As a sweep does when their time is over. No worker may live: its leases would end with them."""
    with process_settings(stack.env):
        with psycopg.connect(stack.env["DATABASE_URL"]) as database:
            database.execute("UPDATE claims SET lease_until = now() - interval '1 second' WHERE state = 'leased'")
        for plan in leases.give_back_expired():
            queue.announce_work(plan)
