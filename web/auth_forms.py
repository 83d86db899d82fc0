"""What requests of people may say."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, WithJsonSchema

from common.mail_addresses import MAX_ADDRESS_BYTES
from common.mailed_tokens import MAX_CHARACTERS
from common.password_hashes import MAX_CHARACTERS as MAX_PASSWORD
from common.password_hashes import MIN_CHARACTERS as MIN_PASSWORD
from common.roles import Role
from web.fields import Name, Text
from web.forms import Form

_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
# What any server takes: common.mail_addresses takes letters of all languages.
Email = Annotated[
    Text,
    WithJsonSchema(
        {
            "type": "string",
            "format": "email",
            "maxLength": MAX_ADDRESS_BYTES,
            "pattern": rf"^[A-Za-z0-9_+-]{{1,30}}(\.[A-Za-z0-9_+-]{{1,30}})?@({_LABEL}\.){{1,2}}[a-z]{{2,20}}$",
        }
    ),
]
NewPassword = Annotated[Text, Field(min_length=MIN_PASSWORD, max_length=MAX_PASSWORD)]
MailedToken = Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]

EXAMPLE: Any = {"email": "ada@example.com", "password": "three odd words", "account_name": "Analytical Engines"}


class SignUp(Form):
    """Who signs up, and what their account is to be called."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    email: Email
    password: NewPassword
    account_name: Name


class LogIn(Form):
    """Who logs in."""

    email: Email
    password: str


class Refresh(Form):
    """The refresh token of the answer before."""

    refresh_token: str


class WithToken(Form):
    """The token of a mailed link."""

    token: MailedToken


class ChangePassword(Form):
    """The password that holds, and the one that is to."""

    password: str
    new_password: NewPassword


class ForgotPassword(Form):
    """Whose password was forgotten."""

    email: Email


class ResetPassword(WithToken):
    """The token of a mailed link, and the new password."""

    password: NewPassword


class ChangeEmail(Form):
    """The password, and the new address."""

    password: str
    email: Email


class ChangeMember(Form):
    """The role that a member is to have."""

    role: Role


class Invite(Form):
    """Who is invited, and in which role."""

    email: Email
    role: Role
