"""What goes wrong on purpose: the settings of /_standin/settings, kept over a restart, and which calls they strike."""

import random
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from local.stripe.store import Store

NAME = "behaviour"

Fault = Literal["error", "error_after", "drop", "drop_after", "rate_limit"]
AFTER: tuple[Fault, ...] = ("error_after", "drop_after")


class FaultRule(BaseModel):
    """A fault, the share of the calls it strikes (0..1) and how the path of these begins."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: Fault
    share: float = Field(default=1, ge=0, le=1)
    path: str = "/v1/"


class Behaviour(BaseModel):
    """Times are in seconds. A meter event is in no summary until `summary_delay_seconds` after it came in. An event is
    told `tell_times`, at any moments of `tell_within_seconds`, and so in another order than they happened."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    faults: tuple[FaultRule, ...] = ()
    delay_seconds: float = Field(default=0, ge=0, le=600)
    summary_delay_seconds: int = Field(default=0, ge=0, le=86_400)
    tell_times: int = Field(default=1, ge=1, le=10)
    tell_within_seconds: float = Field(default=0, ge=0, le=600)

    def strike(self, path: str) -> Fault | None:
        """The fault that this call meets; each rule draws for itself, in their order."""
        for rule in self.faults:
            if path.startswith(rule.path) and random.random() < rule.share:
                return rule.fault
        return None


def behaviour(store: Store) -> Behaviour:
    return Behaviour.model_validate_json(store.setting(NAME, "{}"))


def keep(store: Store, settings: Behaviour) -> None:
    store.set(NAME, settings.model_dump_json())
