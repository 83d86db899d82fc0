"""The operator's command line for metering: `flask --app wsgi billing rollup`, `send`, `status`, `reconcile` ..."""

from uuid import UUID

import click
from flask.cli import AppGroup, with_appcontext

from common import ids, meter_doubts, meter_outbox, meter_sender, metering, reconciling
from common.errors import NotFound
from common.meter_doubts import Verdict
from web.cli import plainly

EXIT_STATUS_OFF = 1


def add_to(group: AppGroup) -> None:
    """They are commands of what is sold."""
    for command in (rollup, send, status, settle, reconcile):
        group.add_command(command)


@click.command("rollup")
@with_appcontext
@plainly
def rollup() -> None:
    """Roll usage up to now, with the running hour and all that Stripe still takes, and print how many portions came."""
    written = metering.roll_up(running_hour=True)
    if written is None:
        raise click.ClickException("Another pass is under way: try again in a moment.")
    click.echo(f"{written} portions to send")


@click.command("send")
@click.option("--failed", is_flag=True, help="What Stripe refused, too, now that the reason is gone.")
@with_appcontext
@plainly
def send(failed: bool) -> None:
    """Send now all that waits, also for its next attempt, and print what came of it."""
    meter_outbox.look()
    if failed:
        meter_outbox.send_again()
    meter_outbox.make_due()
    came = meter_sender.send_due()
    for name, count in came.items():
        click.echo(f"{count} {name.replace('_', ' ')}")
    _show_open()


@click.command("status")
@with_appcontext
@plainly
def status() -> None:
    """What is not at Stripe yet, by state, and each portion that it refused or that is in doubt."""
    _show_open()


def _show_open() -> None:
    waiting = meter_outbox.waiting()
    click.echo(f"{waiting.portions} portions with {waiting.tokens} tokens wait to be sent")
    if waiting.oldest is not None:
        click.echo(f"the oldest is of {waiting.oldest:%Y-%m-%d %H:%M} UTC")
    for portion in meter_outbox.stuck():
        click.echo(f"{portion.identifier}  {portion.state.replace('_', ' ')}  {portion.tokens}  {portion.problem}")


@click.command("settle")
@click.argument("identifier")
@click.option("--delivered", "verdict", flag_value="delivered", required=True, help="Stripe has it.")
@click.option("--again", "verdict", flag_value="pending", help="Stripe has it not: send it again.")
@with_appcontext
@plainly
def settle(identifier: str, verdict: Verdict) -> None:
    """End a doubt that Stripe's sums could not end, as its dashboard shows it."""
    meter_doubts.settle_by_hand(identifier, verdict)
    click.echo(f"{identifier} is {verdict}")


@click.command("reconcile")
@click.option("--account", "account_id", help="This account alone.")
@click.option("--now", "running_hour", is_flag=True, help="With the running hour: for when nothing runs.")
@click.option("--hours", is_flag=True, help="Of an account that is off, the hours in which it is.")
@with_appcontext
@plainly
def reconcile(account_id: str | None, running_hour: bool, hours: bool) -> None:
    """Compare receipts with the ledger, the outbox and Stripe's sums, account by account.

    Prints for each the tokens of its receipts since it is metered, and how much more or less the others have: all of
    them must be 0, and else the exit status is 1. Without --now hours that ended an hour ago are compared. Stripe sums
    some minutes after it takes an event.
    """
    accounts = reconciling.reconcile(_account(account_id), running_hour=running_hour)
    off = 0
    click.echo(f"{'account':<37} {'tokens':>15} {'ledger':>12} {'outbox':>12} {'waiting':>12} {'Stripe':>12}")
    for account in accounts:
        click.echo(
            f"{account.shown_id:<37} {account.used:>15} {account.ledger:>+12} {account.outbox:>+12}"
            f" {account.waiting:>12} {account.stripe:>+12}"
        )
        if account.problem:
            click.echo(f"  {account.problem}")
        if account.is_off:
            off += 1
            if hours:
                _show_hours(account.account_id)
    click.echo(f"{off or 'nothing'} off")
    if off:
        raise SystemExit(EXIT_STATUS_OFF)


def _show_hours(account_id: UUID) -> None:
    for hour in reconciling.hours(account_id):
        click.echo(f"  {hour.hour:%Y-%m-%d %H:%M}  delivered {hour.delivered}, at Stripe {hour.stripe}")


def _account(shown: str | None) -> UUID | None:
    if shown is None:
        return None
    found = ids.parse("acct_", shown)
    if found is None:
        raise NotFound(f"There is no account {shown!r}.")
    return found
