"""The plans: what an account may do, and how its work is weighed against others'. They are data, read from one file."""

import sys
import tomllib
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common import json_text
from common.errors import InvalidRequest
from common.settings import settings

OWN_FILE = Path(__file__).parent.parent / "plans.toml"

# More than any model writes; so the documentation can say what no plan takes.
MOST_OUTPUT_TOKENS = 10_000_000

# What an account has that pays for nothing.
FREE = "free"

Count = Annotated[int, Field(ge=1, le=2**53)]


class Plan(BaseModel):
    """What a plan gives; plans.toml says what each value means. An account's own values are the plan's, or those that
    its overrides put in their place."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
    weight: Annotated[int, Field(ge=1, le=1_000)]
    key_requests_per_minute: Count
    key_requests_per_day: Count
    requests_per_minute: Count
    requests_per_day: Count
    tokens_per_month: Count
    max_queued_tokens: Count
    max_running_jobs: Count
    max_rows: Annotated[int, Field(ge=1, le=100_000_000)]
    max_file_bytes: Count
    max_output_tokens: Annotated[int, Field(ge=1, le=MOST_OUTPUT_TOKENS)]
    default_output_tokens: Annotated[int, Field(ge=1, le=10_000_000)]
    max_prompt_tokens: Annotated[int, Field(ge=1, le=10_000_000)]
    retention_days: Annotated[int, Field(ge=1, le=3_650)]
    models: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False)]
    price: Annotated[int, Field(ge=0, le=99_999_999)] = 0
    included_tokens: Annotated[int, Field(ge=0, le=2**53)] = 0
    overage_price: Annotated[int, Field(ge=0, le=10**9)] = 0

    def __hash__(self) -> int:
        # Plans are looked up by with every request: those of one name that differ are few.
        return hash(self.name)

    @property
    def is_sold(self) -> bool:
        return self.price > 0

    @property
    def retention(self) -> timedelta:
        return timedelta(days=self.retention_days)


# What it costs, which Stripe is told; and whose weight counts, which is a matter between plans.
PRICES = frozenset({"price", "included_tokens", "overage_price"})
# Everything else an account may have its own value of.
OVERRIDABLE = frozenset(Plan.model_fields) - PRICES - {"name", "weight"}


def read(path: Path) -> dict[str, Plan]:
    """The plans of a TOML file, a table for each. Raises ValueError naming the plan and the value that is wrong."""
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"PLANS_FILE {path}: {error}") from error
    if not tables:
        raise ValueError(f"PLANS_FILE {path}: it has no plan")
    found = {}
    for name, table in tables.items():
        try:
            found[name] = Plan.model_validate((table if isinstance(table, dict) else {"": table}) | {"name": name})
        except ValidationError as error:
            field, reason = _first_problem(error)
            raise ValueError(f"PLANS_FILE {path}: [{name}] {field}: {reason}") from None
    if FREE not in found and any(plan.is_sold for plan in found.values()):
        raise ValueError(f"PLANS_FILE {path}: where a plan has a price, there is [{FREE}] for who does not pay it")
    return found


@lru_cache(maxsize=1)
def plans() -> dict[str, Plan]:
    """The plans of this process. Exits with status 2, saying what is wrong, when the file does not hold."""
    try:
        return read(Path(settings().plans_file or OWN_FILE))
    except ValueError as error:
        print(f"setting {error}", file=sys.stderr)
        sys.exit(2)


def sold() -> dict[str, Plan]:
    """Those that have a price, in the order of the file."""
    return {name: plan for name, plan in plans().items() if plan.is_sold}


def get(name: str) -> Plan:
    """Raises InvalidRequest for a plan that there is not."""
    try:
        return plans()[name]
    except KeyError:
        raise InvalidRequest(f"There is no plan {name!r}: choose one of {', '.join(plans())}.", param="plan") from None


@lru_cache(maxsize=1024)
def with_overrides(name: str, overrides: str) -> Plan:
    """The plan with an account's own values, which are a JSON object. Raises InvalidRequest naming one that cannot
    be."""
    values = json_text.loads(overrides)
    if not values:
        return get(name)
    for field in values:
        if field not in OVERRIDABLE:
            allowed = ", ".join(sorted(OVERRIDABLE))
            raise InvalidRequest(f"{field!r} is no limit that an account may have: {allowed}.", param=f"limits.{field}")
    try:
        return Plan.model_validate(get(name).model_dump() | values)
    except ValidationError as error:
        field, reason = _first_problem(error)
        raise InvalidRequest(f"limits.{field}: {reason}.", param=f"limits.{field}") from None


def _first_problem(error: ValidationError) -> tuple[str, str]:
    problem = error.errors(include_url=False, include_input=False)[0]
    return ".".join(map(str, problem["loc"])), problem["msg"]
