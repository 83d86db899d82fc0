"""What an operator's requests may say."""

from typing import Annotated

from pydantic import Field

from common.accounts import Changes
from web.fields import Dollars, JsonObject, Name, Text
from web.forms import Form

MAX_REASON_CHARACTERS = 500

Reason = Annotated[Text, Field(min_length=1, max_length=MAX_REASON_CHARACTERS)]


class CreateAccount(Form):
    """An account to be made."""

    name: Name
    plan: Text = "free"


class ChangeAccount(Form):
    """What is to be otherwise of an account; what is not sent stays. null takes a limit of its own or a cap away."""

    name: Name | None = None
    plan: Text | None = None
    limits: JsonObject | None = None
    soft_cap: Dollars | None = None
    hard_cap: Dollars | None = None

    def changes(self) -> Changes:
        changes: Changes = {}
        if self.name is not None:
            changes["name"] = self.name
        if self.plan is not None:
            changes["plan"] = self.plan
        if self.limits is not None:
            changes["overrides"] = self.limits
        if "soft_cap" in self.model_fields_set:
            changes["soft_cap"] = self.soft_cap
        if "hard_cap" in self.model_fields_set:
            changes["hard_cap"] = self.hard_cap
        return changes


class Suspend(Form):
    """Why an account is suspended; for the audit log."""

    reason: Reason


class StopPlatform(Form):
    """Why all calls are stopped; for the audit log and for who asks."""

    reason: Reason


class ChangePlatform(Form):
    """What all calls of a calendar month may cost together; null for no cap."""

    hard_cap: Dollars | None
