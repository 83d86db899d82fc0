"""The operator's command line for the people of accounts: `flask --app wsgi people ...`."""

import click
from flask.cli import AppGroup

from common import accounts, ids, invitations, members, roles
from common.audit import COMMAND_LINE
from common.roles import Role
from web.cli import every, plainly

people_group = AppGroup("people", help="List the members of an account, and invite somebody to it.")

INVITED_BY = "Whoever runs this service"


@people_group.command("list")
@click.argument("account_id")
@plainly
def list_people(account_id: str) -> None:
    """List the members of an account: id, role, address."""
    account = accounts.get(ids.parse("acct_", account_id))
    for member in every(lambda after, limit: members.list_page(COMMAND_LINE, account.id, after, limit)):
        click.echo(f"{member.shown_id}  {member.role:<9}  {member.email}")


@people_group.command("invite")
@click.argument("account_id")
@click.argument("email")
@click.option("--role", type=click.Choice(roles.ROLES), default="owner", show_default=True)
@plainly
def invite(account_id: str, email: str, role: Role) -> None:
    """Mail somebody a link with which they join an account: also one that was made here, and has no people yet."""
    account = accounts.get(ids.parse("acct_", account_id))
    made = invitations.make(COMMAND_LINE, account.id, email, role, INVITED_BY)
    click.echo(f"{made.shown_id}  {made.email}")
