"""How the provider behaves for a model: the settings, and what a model's name changes in them."""

import re
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

FaultName = Literal[
    "400", "401", "403", "404", "408", "409", "429", "500", "502", "503", "504",
    "quota", "hang", "drip", "drop", "reset", "not-json", "content-filter", "truncated",
]  # fmt: skip
FAULT_NAMES: tuple[str, ...] = get_args(FaultName)

RESERVED_PREFIX = "sim-"
MAX_REMEMBERED_NAMES = 1_000


class FaultRule(BaseModel):
    """A fault, the share of calls it strikes (0..1), and of each body only the first so many calls (0: all)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: FaultName
    probability: float = Field(default=1, ge=0, le=1)
    first: int = Field(default=0, ge=0)


class Behaviour(BaseModel):
    """Latencies are seconds; rpm and tpm are per minute and model; 0 means no limit, or no fixed number of tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latency: float = Field(default=0, ge=0, le=86_400)
    latency_per_token: float = Field(default=0, ge=0, le=3_600)
    tokens: int = Field(default=0, ge=0, le=100_000)
    rpm: int = Field(default=0, ge=0)
    tpm: int = Field(default=0, ge=0)
    retry_after: float = Field(default=1, ge=0, le=86_400)
    drip_seconds: float = Field(default=5, ge=0, le=86_400)
    seed: int = 0
    faults: tuple[FaultRule, ...] = ()


class UnknownModelError(Exception):
    """A reserved model name with an option that does not exist."""


class Behaviours:
    """The behaviour of each model under the settings of the moment."""

    def __init__(self, at_start: Behaviour) -> None:
        self._at_start = at_start
        self._settings = at_start
        self._by_model: dict[str, Behaviour] = {}

    @property
    def settings(self) -> Behaviour:
        return self._settings

    def replace(self, values: dict[str, Any]) -> None:
        """These settings, and for the rest those of the start. Raises pydantic.ValidationError and changes nothing."""
        self._set(self._at_start, values)

    def change(self, values: dict[str, Any]) -> None:
        """These settings, the others as they are. Raises pydantic.ValidationError and changes nothing."""
        self._set(self._settings, values)

    def _set(self, base: Behaviour, values: dict[str, Any]) -> None:
        self._settings = Behaviour.model_validate(base.model_dump() | values)
        self._by_model.clear()

    def of(self, model: str) -> Behaviour:
        """Raises UnknownModelError for a reserved name that means nothing."""
        known = self._by_model.get(model)
        if known is None:
            if len(self._by_model) >= MAX_REMEMBERED_NAMES:
                self._by_model.clear()
            known = self._by_model[model] = self._named(model)
        return known

    def _named(self, model: str) -> Behaviour:
        if not model.lower().startswith(RESERVED_PREFIX):
            return self._settings
        chosen = read_name(model)
        # The name's own faults are tried before those switched on for every model.
        chosen["faults"] = (*chosen["faults"], *self._settings.faults)
        return self._settings.model_copy(update=chosen)


_DURATION = r"(?P<number>\d+(?:\.\d+)?)(?P<unit>ms|s)"
_DURATION_OPTIONS = {"latency": "latency", "per-token": "latency_per_token", "retry": "retry_after"}
_OPTION = re.compile(
    rf"-(?:(?P<duration>{'|'.join(_DURATION_OPTIONS)})-{_DURATION}"
    r"|(?P<count>tokens|rpm|tpm)-(?P<counted>\d{1,9})"
    rf"|(?P<fault>{'|'.join(FAULT_NAMES)})(?:-p-(?P<percent>\d+(?:\.\d+)?))?(?:-first-(?P<first>\d{{1,9}}))?"
    r")(?=-|$)"
)


def read_name(model: str) -> dict[str, Any]:
    """The fields of Behaviour that a reserved model name chooses. Raises UnknownModelError."""
    name = model.lower()
    chosen: dict[str, Any] = {}
    faults = []
    at = len(RESERVED_PREFIX) - 1
    while at < len(name):
        option = _OPTION.match(name, at)
        if option is None:
            raise UnknownModelError(model)
        if duration := option["duration"]:
            chosen[_DURATION_OPTIONS[duration]] = float(option["number"]) / (1_000 if option["unit"] == "ms" else 1)
        elif count := option["count"]:
            chosen[count] = int(option["counted"])
        else:
            probability = min(float(option["percent"] or 100) / 100, 1)
            rule = {"fault": option["fault"], "probability": probability, "first": int(option["first"] or 0)}
            faults.append(FaultRule.model_validate(rule))
        at = option.end()
    chosen["faults"] = tuple(faults)
    return chosen
