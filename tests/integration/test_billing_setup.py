"""`billing setup`: what has to be there at Stripe is made once, and follows the plans file."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result

from common import plans
from tests.process_settings import process_settings
from tests.selling import settings_of, told_by
from tests.stripe_process import StandIn, running_standin
from tests.unit.test_settings import GOOD
from tests.web_client import own_logging


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with running_standin() as running:
        yield running


def setup(env: dict[str, str]) -> Result:
    with process_settings(GOOD | env), own_logging():
        # Imported here: the app reads its settings when it is loaded.
        from web.app import create_app

        return create_app().test_cli_runner().invoke(args=["billing", "setup"])


def run(standin: StandIn, *more: tuple[str, str]) -> list[list[str]]:
    """What it says, by words."""
    done = setup(settings_of(standin) | {"PUBLIC_URL": "https://example.com"} | dict(more))
    assert done.exit_code == 0, done.output
    return [line.split() for line in done.output.splitlines()]


def test_a_second_run_changes_nothing(standin: StandIn) -> None:
    made = run(standin)
    assert {words[0] for words in made} == {"made", "set"}
    kept = run(standin)
    assert {words[0] for words in kept} == {"kept"}
    assert [words[-1] for words in kept] == [words[-1] for words in made if words[0] == "made"]
    (secret,) = [words[1] for words in made if words[0] == "set"]
    assert secret.startswith("STRIPE_WEBHOOK_SECRET=whsec_")


def test_prices_are_those_of_the_plans_file(standin: StandIn) -> None:
    run(standin)
    found = told_by(standin, "prices?limit=100&expand[]=data.tiers")["data"]
    shown = {
        price["lookup_key"]: (
            price["unit_amount"],
            [(tier["up_to"], tier["unit_amount_decimal"]) for tier in price["tiers"] or []],
        )
        for price in found
    }
    assert shown == {
        "batchyard_pro_monthly": (2_900, []),
        "batchyard_pro_tokens": (None, [(50_000_000, "0"), (None, "0.00005")]),
        "batchyard_team_monthly": (29_900, []),
        "batchyard_team_tokens": (None, [(1_000_000_000, "0"), (None, "0.00003")]),
    }


@pytest.mark.parametrize(
    ("was", "now", "key"),
    [
        ("price = 2_900\n", "price = 3_900\n", "batchyard_pro_monthly"),
        ("included_tokens = 50_000_000\n", "included_tokens = 0\n", "batchyard_pro_tokens"),
        ("overage_price = 500\n", "overage_price = 1\n", "batchyard_pro_tokens"),
    ],
)
def test_another_price_is_another_one_there_and_takes_the_name(
    was: str, now: str, key: str, standin: StandIn, tmp_path: Path
) -> None:
    before = {words[2]: words[3] for words in run(standin) if words[1] == "price"}
    file = tmp_path / "plans.toml"
    own = plans.OWN_FILE.read_text()
    assert was in own
    file.write_text(own.replace(was, now))
    changed = [words for words in run(standin, ("PLANS_FILE", str(file))) if words[0] == "changed"]
    assert [words[2] for words in changed] == [key]
    assert not told_by(standin, f"prices/{before[key]}")["active"]
    assert told_by(standin, f"prices/{changed[0][3]}")["lookup_key"] == key
    again = run(standin, ("PLANS_FILE", str(file)))
    assert {words[0] for words in again} == {"kept"}


def test_without_a_key_it_says_what_is_missing() -> None:
    done = setup({})
    assert done.exit_code == 1
    assert "STRIPE_SECRET_KEY" in done.output


def test_a_stripe_that_is_away_is_a_line_and_no_traceback(standin: StandIn) -> None:
    standin.kill()
    done = setup(settings_of(standin))
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    standin.start()
