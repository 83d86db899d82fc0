"""The operator's command line for accounts and their keys: `flask --app wsgi accounts ...` and `... keys ...`."""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import ParamSpec, Protocol, TypeVar

import click
from flask.cli import AppGroup

from common import accounts, ids, json_text, keys, money
from common.accounts import Account, Changes
from common.audit import COMMAND_LINE
from common.errors import BatchyardError, InvalidRequest

P = ParamSpec("P")

accounts_group = AppGroup("accounts", help="Create, list, change, suspend and resume accounts.")
keys_group = AppGroup("keys", help="Create, list, revoke and rotate API keys.")

PAGE = 100
SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Listed(Protocol):
    """Something that a list has."""

    @property
    def shown_id(self) -> str: ...


ListedT = TypeVar("ListedT", bound=Listed)


def plainly(command: Callable[P, None]) -> Callable[P, None]:
    """Shows a refusal as one line instead of a traceback."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except BatchyardError as error:
            raise click.ClickException(error.message) from None

    return run


def every(page: Callable[[str | None, int], Sequence[ListedT]]) -> Iterator[ListedT]:
    """All of a list, page by page."""
    after = None
    while found := page(after, PAGE):
        yield from found
        after = found[-1].shown_id


def span(shown: str | None) -> timedelta | None:
    """A time such as "90s", "12h" or "30d". Raises InvalidRequest."""
    if shown is None:
        return None
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", shown)
    if found is None:
        raise InvalidRequest(f'{shown!r} is no time: write it as "90s", "15m", "12h" or "30d".')
    return timedelta(seconds=int(found[1]) * SECONDS[found[2]])


def cap(shown: str) -> int | None:
    """A cap in dollars, or None for "none". Raises InvalidRequest."""
    if shown == "none":
        return None
    try:
        amount = money.parse_dollars(shown)
    except ValueError as error:
        raise InvalidRequest(f"A cap {error}, or none.") from None
    if amount == 0:
        raise InvalidRequest('A cap is more than nothing; "none" takes it away.')
    return amount


@accounts_group.command("create")
@click.argument("name")
@click.option("--plan", default="free", show_default=True)
@plainly
def create_account(name: str, plan: str) -> None:
    """Create an account and print its id."""
    click.echo(accounts.create(name, plan).shown_id)


@accounts_group.command("list")
@plainly
def list_accounts() -> None:
    """List all accounts, newest first: id, plan, state, name."""
    for account in every(accounts.list_page):
        click.echo(f"{account.shown_id}  {account.plan:<5} {account.state:<9}  {account.name}")


@accounts_group.command("show")
@click.argument("account_id")
@plainly
def show_account(account_id: str) -> None:
    """Show an account with its own limits and its caps."""
    _show(_account(account_id))


@accounts_group.command("change")
@click.argument("account_id")
@click.option("--name")
@click.option("--plan")
@click.option("--limit", "limits", multiple=True, metavar="NAME=VALUE", help="A limit of its own; NAME= takes it away.")
@click.option("--soft-cap", metavar="DOLLARS", help="In a billing period; none takes it away.")
@click.option("--hard-cap", metavar="DOLLARS", help="In a billing period; none takes it away.")
@plainly
def change_account(
    account_id: str,
    name: str | None,
    plan: str | None,
    limits: tuple[str, ...],
    soft_cap: str | None,
    hard_cap: str | None,
) -> None:
    """Change an account from its next request on."""
    changes: Changes = {}
    if name is not None:
        changes["name"] = name
    if plan is not None:
        changes["plan"] = plan
    if limits:
        changes["overrides"] = dict(map(_limit, limits))
    if soft_cap is not None:
        changes["soft_cap"] = cap(soft_cap)
    if hard_cap is not None:
        changes["hard_cap"] = cap(hard_cap)
    _show(accounts.change(COMMAND_LINE, ids.parse("acct_", account_id), changes))


def _limit(shown: str) -> tuple[str, object]:
    """A limit's name and its value, which is a number or JSON."""
    name, _, value = shown.partition("=")
    try:
        return name, json_text.loads(value) if value else None
    except ValueError:
        raise InvalidRequest(f"{name} is {value!r}: write a number, or a list as JSON.") from None


@accounts_group.command("suspend")
@click.argument("account_id")
@click.option("--reason", required=True, help="For the audit log.")
@plainly
def suspend_account(account_id: str, reason: str) -> None:
    """Refuse the account's keys and pause its batches."""
    _show(accounts.suspend(COMMAND_LINE, ids.parse("acct_", account_id), reason))


@accounts_group.command("resume")
@click.argument("account_id")
@plainly
def resume_account(account_id: str) -> None:
    """Serve a suspended account again."""
    _show(accounts.resume(COMMAND_LINE, ids.parse("acct_", account_id)))


def _account(shown: str) -> Account:
    return accounts.get(ids.parse("acct_", shown))


def _show(account: Account) -> None:
    lines = {
        "id": account.shown_id,
        "name": account.name,
        "state": account.state,
        "plan": account.plan,
        "limits": json_text.dumps(account.overrides).decode(),
        "soft cap": dollars(account.soft_cap),
        "hard cap": dollars(account.hard_cap),
    }
    for name, value in lines.items():
        click.echo(f"{name:<9} {value}")


def dollars(cap: int | None) -> str:
    return "none" if cap is None else f"${money.format_nano_dollars(cap)}"


@keys_group.command("create")
@click.argument("account_id")
@click.option("--name", default="default", show_default=True, help="What the key is for.")
@click.option("--scopes", default=",".join(keys.DEFAULT_SCOPES), show_default=True, help="Separated by commas.")
@click.option("--expires-in", metavar="TIME", help="Such as 12h or 30d; without it the key does not expire.")
@plainly
def create_key(account_id: str, name: str, scopes: str, expires_in: str | None) -> None:
    """Create an API key and print it. It cannot be shown again."""
    account = _account(account_id)
    life = span(expires_in)
    expires_at = datetime.now(UTC) + life if life is not None else None
    click.echo(keys.create(account.id, name, tuple(scope.strip() for scope in scopes.split(",")), expires_at))


@keys_group.command("list")
@click.argument("account_id")
@plainly
def list_keys(account_id: str) -> None:
    """List the keys of an account, newest first: id, prefix, state, scopes, last use, name."""
    account = _account(account_id)
    for key in every(lambda after, limit: keys.list_page(COMMAND_LINE, account.id, after, limit)):
        used = key.last_used_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if key.last_used_at else "never used"
        click.echo(f"{key.shown_id}  {key.prefix}  {key.status:<7}  {','.join(key.scopes)}  {used}  {key.name}")


@keys_group.command("revoke")
@click.argument("key_id")
@plainly
def revoke_key(key_id: str) -> None:
    """Revoke a key: its next request is refused."""
    keys.revoke(COMMAND_LINE, keys.find(key_id).account_id, key_id)
    click.echo(f"{key_id} is revoked")


@keys_group.command("rotate")
@click.argument("key_id")
@click.option("--overlap", default="1d", show_default=True, metavar="TIME", help="How long the old key lives on.")
@plainly
def rotate_key(key_id: str, overlap: str) -> None:
    """Create a key that takes over from this one, and print it. It cannot be shown again."""
    old = keys.find(key_id)
    click.echo(keys.rotate(COMMAND_LINE, old.account_id, key_id, span(overlap) or timedelta(0)).secret)
