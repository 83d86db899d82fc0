"""The operator's command line: `flask --app wsgi accounts ...` and `flask --app wsgi keys ...`."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import click
from flask.cli import AppGroup

from common import accounts, ids, keys
from common.errors import BatchyardError

P = ParamSpec("P")

accounts_group = AppGroup("accounts", help="Create and list accounts.")
keys_group = AppGroup("keys", help="Create, list and revoke API keys.")


def _plainly(command: Callable[P, None]) -> Callable[P, None]:
    """Shows a refusal as one line instead of a traceback."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except BatchyardError as error:
            raise click.ClickException(error.message) from None

    return run


@accounts_group.command("create")
@click.argument("name")
@click.option("--plan", default="free", show_default=True)
@_plainly
def create_account(name: str, plan: str) -> None:
    """Create an account and print its id."""
    click.echo(accounts.create(name, plan).shown_id)


@accounts_group.command("list")
@_plainly
def list_accounts() -> None:
    """List all accounts: id, plan, name."""
    for account in accounts.list_all():
        click.echo(f"{account.shown_id}  {account.plan:<5} {account.name}")


@keys_group.command("create")
@click.argument("account_id")
@click.option("--name", default="default", show_default=True, help="What the key is for.")
@click.option("--scopes", default=",".join(keys.DEFAULT_SCOPES), show_default=True, help="Separated by commas.")
@_plainly
def create_key(account_id: str, name: str, scopes: str) -> None:
    """Create an API key and print it. It cannot be shown again."""
    account = accounts.get(ids.parse("acct_", account_id))
    click.echo(keys.create(account.id, name, tuple(scope.strip() for scope in scopes.split(","))))


@keys_group.command("list")
@click.argument("account_id")
@_plainly
def list_keys(account_id: str) -> None:
    """List the keys of an account: id, prefix, state, scopes, name."""
    account = accounts.get(ids.parse("acct_", account_id))
    for key in keys.list_of(account.id):
        state = "revoked" if key.revoked_at else "active"
        click.echo(f"{key.shown_id}  {key.prefix}  {state:<7}  {','.join(key.scopes)}  {key.name}")


@keys_group.command("revoke")
@click.argument("key_id")
@_plainly
def revoke_key(key_id: str) -> None:
    """Revoke a key: its next request is refused."""
    keys.revoke(ids.parse("key_", key_id))
    click.echo(f"{key_id} is revoked")
