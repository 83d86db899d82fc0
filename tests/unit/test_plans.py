"""The plans file: what is wrong in it is named, and an account's own values are held to the same rules."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from common import json_text
from common.errors import InvalidRequest
from common.plans import OVERRIDABLE, OWN_FILE, PRICES, Plan, read, with_overrides
from tests.process_settings import process_settings
from tests.unit.test_settings import GOOD as GOOD_SETTINGS


@pytest.fixture(autouse=True)
def no_file_named() -> Iterator[None]:
    with process_settings(GOOD_SETTINGS):
        yield


GOOD = OWN_FILE.read_text("utf-8")


def read_text(text: str, folder: Path) -> dict[str, Plan]:
    path = folder / "plans.toml"
    path.write_text(text, "utf-8")
    return read(path)


def test_the_plans_that_come_with_batchyard_hold() -> None:
    assert list(read(OWN_FILE)) == ["free", "pro", "team"]


@pytest.mark.parametrize("plan", read(OWN_FILE).values(), ids=lambda plan: str(plan.name))
def test_a_plans_largest_batch_fits_where_no_request_sets_a_bound(plan: Plan) -> None:
    held = plan.max_rows * plan.default_output_tokens
    assert held < plan.max_queued_tokens <= plan.tokens_per_month


@pytest.mark.parametrize(
    ("was", "now", "named"),
    [
        ("weight = 3\n", "", "[pro] weight"),
        ("weight = 3\n", "weight = 0\n", "[pro] weight"),
        ("weight = 3\n", 'weight = "3"\n', "[pro] weight"),
        ("weight = 3\n", "weight = 3\ncolour = 1\n", "[pro] colour"),
        ("[team]\n", '[team]\nname = "x"\n[pro2]\n', "[team] weight"),
        ('models = ["*"]\n', "models = [1]\n", "[free] models.0"),
        ("price = 2_900\n", 'price = "29.00"\n', "[pro] price"),
        ("[pro]", "[Pro!]", "plans.toml"),
        ('["*"]', '["*"', "plans.toml"),
    ],
)
def test_a_bad_value_is_named_with_its_plan(was: str, now: str, named: str, tmp_path: Path) -> None:
    assert was in GOOD
    with pytest.raises(ValueError, match="PLANS_FILE") as refused:
        read_text(GOOD.replace(was, now, 1), tmp_path)
    assert named in str(refused.value)


def test_a_file_without_plans_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="it has no plan"):
        read_text("", tmp_path)


def test_a_file_that_sells_a_plan_has_one_for_who_does_not_pay(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is \[free\]"):
        read_text(GOOD.replace("[free]", "[basic]", 1), tmp_path)


def test_an_account_has_its_own_values_and_the_rest_of_its_plan() -> None:
    plan = read(OWN_FILE)["pro"]
    own = with_overrides("pro", '{"max_rows": 5, "models": ["sim*"]}')
    assert (own.max_rows, own.models) == (5, ("sim*",))
    assert own.model_dump(exclude={"max_rows", "models"}) == plan.model_dump(exclude={"max_rows", "models"})


@pytest.mark.parametrize("overrides", [{"max_rows": 0}, {"max_rows": "5"}, {"weight": 2}, {"name": "x"}, {"rows": 1}])
def test_a_value_that_no_account_may_have_is_named(overrides: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        with_overrides("pro", json_text.dumps(overrides).decode())
    assert refused.value.param == f"limits.{next(iter(overrides))}"


def test_every_limit_but_the_weight_may_be_an_accounts_own() -> None:
    assert set(Plan.model_fields) - OVERRIDABLE == {"name", "weight"} | PRICES


def test_a_file_from_before_there_were_prices_sells_nothing(tmp_path: Path) -> None:
    older = "".join(line for line in GOOD.splitlines(keepends=True) if line.split(" ")[0] not in PRICES)
    assert not any(plan.is_sold for plan in read_text(older, tmp_path).values())
