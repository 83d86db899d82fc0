"""The operator's command line for the whole: `flask --app wsgi platform ...`, `... queues ...` and `... audit ...`."""

import click
from flask.cli import AppGroup
from redis.exceptions import RedisError

from common import accounts, audit, backlog, ids, json_text, platform, queue
from common.audit import COMMAND_LINE
from common.platform import Platform
from web.cli import cap, dollars, every, plainly

platform_group = AppGroup("platform", help="The switch that stops all calls, and the cap of a calendar month.")
queues_group = AppGroup("queues", help="What waits, and what is paused.")
audit_group = AppGroup("audit", help="Who did what.")


@platform_group.command("show")
@plainly
def show() -> None:
    """Whether calls are made, and what they cost this month."""
    _show(platform.get())


@platform_group.command("stop")
@click.option("--reason", required=True, help="For the audit log and for who asks.")
@plainly
def stop(reason: str) -> None:
    """Stop all calls. Those in flight end."""
    _show(platform.stop(COMMAND_LINE, reason))


@platform_group.command("resume")
@plainly
def resume() -> None:
    """Make calls again."""
    _show(platform.resume(COMMAND_LINE))


@platform_group.command("cap")
@click.argument("hard_cap", metavar="DOLLARS")
@plainly
def set_cap(hard_cap: str) -> None:
    """Set what all calls of a calendar month may cost together; none takes the cap away."""
    _show(platform.set_cap(COMMAND_LINE, cap(hard_cap)))


def _show(found: Platform) -> None:
    if found.stopped_at is None:
        click.echo("running")
    else:
        click.echo(f"stopped since {found.stopped_at:%Y-%m-%d %H:%M:%S %Z}: {found.stopped_reason}")
    click.echo(f"hard cap {dollars(found.hard_cap)}, spent since {found.month:%Y-%m-%d} {dollars(found.spent)}")


@queues_group.command("list")
@plainly
def list_queues() -> None:
    """List the plans: rows pending, accounts waiting, rows running, tickets; then what ingests and tasks wait."""
    tickets: dict[str, int] = {}
    try:
        tickets = queue.waiting()
    except RedisError:
        click.echo("Redis does not answer: tickets and tasks are unknown", err=True)
    for depth in backlog.depths():
        waiting = tickets.get(queue.plan_queue(depth.plan), "?")
        counts = f"{depth.pending_rows} pending, {depth.accounts_waiting} accounts, {depth.running_rows} running"
        click.echo(f"{depth.plan:<5} {counts}, {waiting} tickets")
    for name in (queue.INGESTS_QUEUE, queue.TASKS_QUEUE):
        click.echo(f"{name}: {tickets.get(name, '?')}")


@queues_group.command("paused")
@plainly
def list_paused() -> None:
    """List the paused batches, newest first: id, account, reason, since when."""
    for batch in every(lambda after, limit: backlog.paused(None, after, limit)):
        account = ids.show("acct_", batch.account_id)
        click.echo(f"{batch.shown_id}  {account}  {batch.reason}  {batch.paused_at:%Y-%m-%d %H:%M:%S}")


@audit_group.command("list")
@click.option("--account", "account_id", help="Of this account alone.")
@click.option("--limit", default=100, show_default=True, help="How many of the latest.")
@plainly
def list_acts(account_id: str | None, limit: int) -> None:
    """List the latest acts, newest first: time, who, what, account, details."""
    account = accounts.get(ids.parse("acct_", account_id)) if account_id is not None else None
    for entry in audit.list_page(account.id if account is not None else None, None, limit):
        of = ids.show("acct_", entry.account_id) if entry.account_id is not None else "-"
        details = json_text.dumps(entry.details).decode()
        click.echo(f"{entry.created_at:%Y-%m-%dT%H:%M:%S}  {entry.actor}  {entry.action}  {of}  {details}")
