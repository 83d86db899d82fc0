"""The operator's command line for what is sold: `flask --app wsgi billing ...`."""

from uuid import UUID

import click
from flask.cli import AppGroup

from common import billing, billing_setup, ids
from common.audit import COMMAND_LINE
from common.errors import NotFound
from web.cli import plainly

billing_group = AppGroup("billing", help="What is sold through Stripe, and how an account stands.")


@billing_group.command("setup")
@plainly
def setup() -> None:
    """Make what has to be there at Stripe, from the plans file; again, it changes what is not as the file says."""
    for step in billing_setup.run():
        click.echo(f"{step.done:<8} {step.what}  {step.id}".rstrip())
        if step.secret is not None:
            click.echo(f"         set STRIPE_WEBHOOK_SECRET={step.secret} now: it is shown this once")


@billing_group.command("forget-customer")
@click.argument("account_id")
@plainly
def forget_customer(account_id: str) -> None:
    """Let go of an account's customer that is no more at Stripe: it has the free plan then, and another customer on
    need."""
    click.echo(f"plan {billing.forget_customer(COMMAND_LINE, _account(account_id))}")


@billing_group.command("show")
@click.argument("account_id")
@plainly
def show(account_id: str) -> None:
    """How an account stands: its plan, and what its subscription says."""
    status = billing.status(_account(account_id))
    standing = status.standing
    click.echo(f"plan {status.plan}, subscription {standing.state}")
    if standing.subscription is not None:
        one = standing.subscription
        click.echo(f"{one.id}  {one.plan}  {one.status}, its period ends {one.period_end}, it ends {one.cancel_at}")
    if standing.grace_until is not None:
        click.echo(f"a payment has failed; the plan stays until {standing.grace_until}")


def _account(account_id: str) -> UUID:
    found = ids.parse("acct_", account_id)
    if found is None:
        raise NotFound(f"There is no account {account_id!r}.")
    return found
