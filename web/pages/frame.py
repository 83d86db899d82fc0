"""What stands around every page: who looks at it, the sections of their account, and what the page before left."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from flask import Flask, request
from jinja2 import StrictUndefined

from common.money import NANO_DOLLARS_PER_CENT, format_nano_dollars
from common.people import Person
from web.pages import assets, note, visitor


@dataclass(frozen=True, slots=True)
class Section:
    """A page of an account, for those whose role has the scope; None: for every member."""

    blueprint: str
    name: str
    scope: str | None = None

    @property
    def endpoint(self) -> str:
        return f"{self.blueprint}.page"


SECTIONS = (
    Section("pages.overview", "Overview"),
    Section("pages.keys", "API keys", "keys"),
    Section("pages.usage", "Usage", "usage"),
    Section("pages.billing", "Plan and billing", "billing"),
    Section("pages.members", "Members", "members"),
    Section("pages.account_settings", "Settings"),
)


def init_app(app: Flask) -> None:
    """Gives the templates what all of them use. A name that a template has and we have not is an error."""
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals |= {"asset": assets.address, "csrf_field": visitor.csrf_field}
    app.jinja_env.filters |= {shown.__name__: shown for shown in (count, dollars, cents, day, short_day, moment)}
    app.context_processor(_around)


def _around() -> dict[str, Any]:
    person = visitor.person_or_none()
    scopes = person.scopes if person is not None else ()
    return {
        "person": person,
        "account_name": _account_name(person) if person is not None else None,
        "sections": [section for section in SECTIONS if section.scope is None or section.scope in scopes],
        "here": request.blueprint,
        "note": note.take(),
    }


def _account_name(person: Person) -> str:
    """Of the account that the person works in."""
    named = {account.account_id: account.name for account in person.accounts}
    return named.get(person.account_id, person.email) if person.account_id is not None else person.email


def count(number: int) -> str:
    return f"{number:,}"


def dollars(nano_dollars: int) -> str:
    """Exact, and to the cent at least."""
    whole, _, fraction = format_nano_dollars(nano_dollars).partition(".")
    return f"${int(whole):,}.{fraction:0<2}"


def cents(amount: int) -> str:
    return dollars(amount * NANO_DOLLARS_PER_CENT)


def day(moment: datetime | date) -> str:
    return f"{moment.day} {moment:%B %Y}"


def short_day(at: date) -> str:
    return f"{at.day} {at:%b}"


def moment(at: datetime) -> str:
    return f"{day(at)}, {at:%H:%M} UTC"
