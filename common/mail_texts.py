"""What mails say: each a subject and some paragraphs, as plain text and as plain HTML.

No value stands in a subject, so that nobody who chooses a value writes one, and a mail shows nothing from elsewhere.
"""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Template = Literal[
    "verify_email",
    "address_known",
    "reset_password",
    "password_changed",
    "email_change",
    "email_changed",
    "invitation",
    "payment_failed",
    "plan_changed",
    "metering_alarm",
]

# Of a value that somebody chose; an account's name may be an advertisement.
MAX_SHOWN_CHARACTERS = 120
# Long enough for a report to the operator.
MAX_PROBLEM_CHARACTERS = 4_000


@dataclass(frozen=True, slots=True)
class Text:
    """A mail without its addresses."""

    subject: str
    plain: str
    html: str


def fill(template: Template, values: Mapping[str, str]) -> Text:
    """The mail with these values in it. Raises KeyError where one is missing."""
    subject, *paragraphs = _TEXTS[template]
    plain = {name: value if name == "link" else _shown(name, value) for name, value in values.items()}
    marked = {name: html.escape(value).replace("\n", "<br>\n") for name, value in plain.items()}
    return Text(
        subject,
        "\n\n".join(paragraph.format_map(plain) for paragraph in paragraphs) + "\n",
        _PAGE.format(
            subject=html.escape(subject),
            paragraphs="\n".join(f"<p>{_marked_up(paragraph).format_map(marked)}</p>" for paragraph in paragraphs),
        ),
    )


def _marked_up(paragraph: str) -> str:
    escaped = html.escape(paragraph, quote=False)
    return '<a href="{link}">{link}</a>' if escaped == "{link}" else escaped


def _shown(name: str, value: str) -> str:
    """Without what moves or hides text, and not for ever; on one line, but for a report of ours."""
    if name == "problem":
        return _up_to(MAX_PROBLEM_CHARACTERS, "\n".join(map(_on_one_line, value.splitlines())))
    return _up_to(MAX_SHOWN_CHARACTERS, _on_one_line(value))


def _on_one_line(value: str) -> str:
    return " ".join("".join(character if character.isprintable() else " " for character in value).split())


def _up_to(limit: int, value: str) -> str:
    return value if len(value) <= limit else value[: limit - 1] + "…"


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{subject}</title></head>
<body>
{paragraphs}
</body>
</html>
"""

_IGNORE = "If you did not ask for this, do nothing: without the link nothing changes."

_TEXTS: Mapping[Template, tuple[str, ...]] = {
    "verify_email": (
        "Confirm your address",
        "Somebody signed up with this address. If it was you, follow this link to confirm that it is yours:",
        "{link}",
        "The link works once, and not for long. If it was not you, do nothing.",
    ),
    "address_known": (
        "You have an account already",
        "Somebody tried to sign up with this address, or to change theirs to it, and it has an account. If it was you,"
        " log in, or reset your password if you have forgotten it:",
        "{link}",
        "If it was not you, do nothing: nothing has changed.",
    ),
    "reset_password": (
        "Reset your password",
        "Somebody asked to reset the password of the account with this address. Choose a new one here:",
        "{link}",
        "The link works once, and not for long. " + _IGNORE,
    ),
    "password_changed": (
        "Your password was changed",
        "The password of your account was changed, and whoever was logged in with the old one is logged out.",
        "If it was not you, reset your password now, and then look at the API keys and members of your account.",
    ),
    "email_change": (
        "Confirm your new address",
        "Somebody asked to use this address for their account from now on. If it was you, follow this link:",
        "{link}",
        "The link works once, and not for long. " + _IGNORE,
    ),
    "email_changed": (
        "Your address was changed",
        "Your account now has another address, and this one can no longer log in.",
        "If it was not you, tell whoever runs this service at once: they can give the account back to you.",
    ),
    "invitation": (
        "You are invited to an account",
        "{invited_by} invites you to the account “{account}” with the role {role}. To accept, follow this link:",
        "{link}",
        "The link works once. If you do not know who this is, do nothing.",
    ),
    "payment_failed": (
        "A payment failed",
        "The payment for your plan failed. Your plan stays as it is until {until}; from then on your account has the"
        " limits of the free plan. What you have submitted is kept.",
        "See to the payment here:",
        "{link}",
    ),
    "plan_changed": (
        "Your plan has changed",
        "Your account is now on the plan {plan}. Its limits hold from now on.",
    ),
    "metering_alarm": (
        "Usage is not reaching Stripe",
        "{problem}",
        "Until this is mended, customers may be billed for less than they used. These say more: `flask --app wsgi"
        " doctor` and `flask --app wsgi billing reconcile`.",
    ),
}
