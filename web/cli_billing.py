"""The operator's command line for what is sold: `flask --app wsgi billing ...`."""

import click
from flask.cli import AppGroup

from common import billing, billing_setup, ids
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


@billing_group.command("show")
@click.argument("account_id")
@plainly
def show(account_id: str) -> None:
    """How an account stands: its plan, and what its subscription says."""
    found = ids.parse("acct_", account_id)
    if found is None:
        raise NotFound(f"There is no account {account_id!r}.")
    status = billing.status(found)
    standing = status.standing
    click.echo(f"plan {status.plan}, subscription {standing.state}")
    if standing.subscription is not None:
        one = standing.subscription
        click.echo(f"{one.id}  {one.plan}  {one.status}, its period ends {one.period_end}, it ends {one.cancel_at}")
    if standing.grace_until is not None:
        click.echo(f"a payment has failed; the plan stays until {standing.grace_until}")
