"""The operator's models file: what it gives, and what is said of one that does not hold."""

from pathlib import Path

import pytest

from common.money import Price
from common.providers import read

FILE = """
[providers.second]
url = "https://models.example/v1/"
api_key_variable = "SECOND_KEY"
concurrency = 50

[models."fast"]
provider = "second"
upstream = "fast-2026-01"
requests_per_minute = 600
tokens_per_minute = 300_000
context = 128_000
prices = { prompt = "0.15", completion = "0.60" }
fallbacks = ["large", "sim-anything"]

[models.large]

[models."sim*"]
"""


def written(folder: Path, content: str) -> Path:
    path = folder / "models.toml"
    path.write_text(content)
    return path


def test_a_model_has_its_provider_its_upstream_name_its_limits_and_its_price(tmp_path: Path) -> None:
    catalog = read(written(tmp_path, FILE))
    fast = catalog.find("fast")
    assert fast is not None
    assert (fast.provider, fast.upstream, fast.requests_per_minute, fast.context) == (
        "second", "fast-2026-01", 600, 128_000,
    )  # fmt: skip
    assert fast.prices is not None
    assert fast.prices.price == Price(150_000_000, 150_000_000, 600_000_000)
    provider = catalog.providers["second"]
    assert provider is not None
    assert (provider.url, provider.concurrency) == ("https://models.example/v1", 50)


def test_a_chain_is_the_model_and_its_fallbacks_in_their_order(tmp_path: Path) -> None:
    catalog = read(written(tmp_path, FILE))
    assert [name for name, _ in catalog.chain("fast")] == ["fast", "large", "sim-anything"]
    assert [spec.name for _, spec in catalog.chain("fast")] == ["fast", "large", "sim*"]
    assert [name for name, _ in catalog.chain("sim-x")] == ["sim-x"]
    assert not catalog.chain("unknown")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", 'it has no model: [models."*"] stands for all'),
        ("x = ", "Invalid value"),
        ("[model.a]", "[model] is neither [providers.*] nor [models.*]"),
        ("models = 3", "[models] has a table for each of them"),
        ("[models.a]\nprovider = 'b'", '[models."a"] provider: there is no [providers.b]'),
        ("[models.a]\nrpm = 3", '[models."a"] rpm: Extra inputs are not permitted'),
        ("[models.a]\nrequests_per_minute = 0", '[models."a"] requests_per_minute: Input should be greater'),
        ("[models.a]\nfallbacks = ['a']", "'a' is no other model of the file"),
        ("[models.a]\nfallbacks = ['b']", "'b' is no other model of the file"),
        ("[models.'a*']\nupstream = 'b'", '[models."a*"] upstream: a name that stands for several'),
        ("[models.a]\nprices = { prompt = '1' }", '[models."a"] prices.completion: Field required'),
        ("[models.a]\nprices = { prompt = 'x', completion = '1' }", "must be dollars as a string"),
        ("[providers.b]\nurl = 'ftp://x'\napi_key_variable = 'K'\n[models.a]", "[providers.b] url: Value error"),
        ("[providers.b]\nurl = 'http://x'\n[models.a]", "[providers.b] api_key_variable: Field required"),
    ],
)
def test_what_does_not_hold_is_named(tmp_path: Path, content: str, says: str) -> None:
    with pytest.raises(ValueError, match=r"^MODELS_FILE ") as caught:
        read(written(tmp_path, content))
    assert says in str(caught.value)
