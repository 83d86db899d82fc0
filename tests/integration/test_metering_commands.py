"""`flask --app wsgi billing rollup`, `send`, `status`, `reconcile` and `settle`: what an operator sees and can do."""

from collections.abc import Callable
from uuid import UUID

import psycopg
import pytest
from click.testing import Result

from common import ids
from tests import work
from tests.databases import one
from tests.stripe_process import StandIn
from tests.web_client import WebClient
from worker.outcomes import record

Billing = Callable[..., Result]

TOKENS = work.USAGE.prompt_tokens + work.USAGE.completion_tokens


@pytest.fixture
def billing(web: WebClient, billing_on: None) -> Billing:
    def run(*arguments: str) -> Result:
        return web.app.test_cli_runner().invoke(args=["billing", *arguments])

    return run


@pytest.fixture
def ann(database: psycopg.Connection, stripe_customer: str) -> UUID:
    """A metered account with two receipts of now."""
    of = work.caller()
    database.execute(
        "UPDATE accounts SET stripe_customer_id = %s, metered_from = now() WHERE id = %s",
        [stripe_customer, of.account_id],
    )
    work.bulk(of, 2)
    record(work.outcomes(work.take()[0]))
    return of.account_id


def test_usage_up_to_now_is_rolled_up_sent_and_reconciled(billing: Billing, ann: UUID) -> None:
    assert billing("rollup").output == "1 portions to send\n"
    assert billing("status").output.startswith(
        f"1 portions with {2 * TOKENS} tokens wait to be sent\nthe oldest is of "
    )
    off = billing("reconcile", "--now", "--hours")
    assert off.exit_code == 1
    assert f"{-2 * TOKENS:+}\n1 off\n" in off.output
    assert billing("send").output == "1 delivered\n0 portions with 0 tokens wait to be sent\n"
    done = billing("reconcile", "--now")
    assert done.exit_code == 0, done.output
    shown = done.output.splitlines()[1].split()
    assert shown == [ids.show("acct_", ann), str(2 * TOKENS), "+0", "+0", "0", "+0"]
    assert done.output.endswith("nothing off\n")


def test_one_account_can_be_reconciled_alone(billing: Billing, ann: UUID) -> None:
    assert ids.show("acct_", ann) in billing("reconcile", "--now", "--account", ids.show("acct_", ann)).output
    other = work.caller().account_id
    assert billing("reconcile", "--now", "--account", ids.show("acct_", other)).output.endswith("nothing off\n")
    assert billing("reconcile", "--account", "nonsense").output == "Error: There is no account 'nonsense'.\n"


@pytest.mark.usefixtures("ann")
def test_what_stripe_refused_is_shown_and_sent_again_on_demand(billing: Billing, database: psycopg.Connection) -> None:
    database.execute("UPDATE accounts SET stripe_customer_id = 'cus_nobody' WHERE stripe_customer_id IS NOT NULL")
    billing("rollup")
    told = billing("send").output
    assert told.startswith("1 refused\n0 portions with 0 tokens wait to be sent\n")
    assert "  failed  " in told
    assert "No such customer" in told
    assert "refused" not in billing("send").output.splitlines()[0]
    assert billing("send", "--failed").output.startswith("1 refused\n")


@pytest.mark.usefixtures("ann")
def test_a_doubt_is_ended_by_hand(billing: Billing, database: psycopg.Connection) -> None:
    billing("rollup")
    database.execute(
        "UPDATE meter_outbox SET state = 'in_doubt', next_attempt_at = NULL, attempts = 1, attempted_at = now(),"
        " doubtful_since = now()"
    )
    (identifier,) = one(database, "SELECT identifier FROM meter_outbox")
    assert "  in doubt  " in billing("status").output
    assert billing("settle", str(identifier), "--again").output == f"{identifier} is pending\n"
    assert one(database, "SELECT state FROM meter_outbox") == ("pending",)
    assert billing("settle", str(identifier), "--delivered").exit_code == 1
    assert billing("settle", str(identifier)).exit_code == 2


@pytest.mark.usefixtures("ann")
def test_where_stripe_is_away_nothing_is_said_to_be_off(billing: Billing, standin: StandIn) -> None:
    standin.admin("PUT", "settings", faults=[{"fault": "error"}])
    done = billing("reconcile", "--now")
    assert (done.exit_code, done.output.splitlines()[-1]) == (
        1,
        "Error: Stripe does not answer: send the request again.",
    )


def test_where_nothing_is_sold_the_commands_say_so(web: WebClient) -> None:
    run = web.app.test_cli_runner()
    for command in ("send", "reconcile"):
        done = run.invoke(args=["billing", command])
        assert done.exit_code == 1
        assert done.output.startswith("Error: Nothing is sold here")
