"""What every process of a stack is told: the settings the caller gave, and the stack's own choices for the rest."""

from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

from common.settings import Settings
from local import mailbox
from local.home import Home
from local.process import ROOT

KEY_NAMES = ("API_KEY", "FREE_API_KEY", "TEAM_API_KEY", "ADMIN_API_KEY")
WEB_ROLE = "batchyard_web"
OPENAI_URL = "https://api.openai.com/v1"
SIMULATED_KEY = "sim"
STANDIN_KEY = "sk_test_standin"
SIMULATED_PRICES = ROOT / "local" / "prices.toml"
# What the caller may set. The port is the stack's own, and the provider's settings are chosen together.
SETTINGS = {name.upper() for name in Settings.model_fields} - {"PORT", "PROVIDER_URL", "PROVIDER_API_KEY"}


def without_our_own(home: Home, given: Mapping[str, str]) -> dict[str, str]:
    """The settings given, without those that this home's env file put into the caller's shell some time ago."""
    ours = [value for name, value in home.known_secrets().items() if name.endswith("_password")]
    kept = {name: value for name, value in given.items() if value and not any(secret in value for secret in ours)}
    if kept.get("PROVIDER_API_KEY") == SIMULATED_KEY:
        for name in ("PROVIDER_API_KEY", "PROVIDER_URL", "PRICES_FILE"):
            kept.pop(name, None)
    if kept.get("STRIPE_SECRET_KEY") == STANDIN_KEY:
        for name in ("STRIPE_SECRET_KEY", "STRIPE_API_BASE", "STRIPE_WEBHOOK_SECRET"):
            kept.pop(name, None)
    # Of the port that the stack had then.
    if "BASE_URL" in kept and kept.get("PUBLIC_URL") == kept["BASE_URL"]:
        del kept["PUBLIC_URL"]
    return kept


def wants_simulated_provider(given: Mapping[str, str]) -> bool:
    """Whether nothing given names a provider."""
    return not {"PROVIDER_API_KEY", "PROVIDER_URL", "OPENAI_API_KEY"} & given.keys()


def wants_mailbox(given: Mapping[str, str]) -> bool:
    """Whether nothing given names a mail server."""
    return "SMTP_URL" not in given


def wants_stripe_standin(given: Mapping[str, str]) -> bool:
    """Whether nothing given says where to sell."""
    return "STRIPE_SECRET_KEY" not in given


def build(
    home: Home, port: int, services: Mapping[str, str], given: Mapping[str, str], *, with_stripe: bool = True
) -> dict[str, str]:
    """The env file's content, in its order. `services` holds the DATABASE_URL and REDIS_URL of embedded services."""
    database_url = given.get("DATABASE_URL") or services["DATABASE_URL"]
    storage = home.path / "storage"
    storage.mkdir(exist_ok=True)
    uploads = home.path / "uploads"
    uploads.mkdir(exist_ok=True)
    chosen = {
        "BASE_URL": f"http://127.0.0.1:{port}",
        **dict.fromkeys(KEY_NAMES, ""),
        "DATABASE_URL": database_url,
        "REDIS_URL": given.get("REDIS_URL") or services["REDIS_URL"],
        **_provider(home, given),
        **(mailbox.settings(home) if wants_mailbox(given) else {}),
        **(_stripe(home) if with_stripe and wants_stripe_standin(given) else {}),
        "WEB_PID": "",
        "WORKER_PIDS": "",
        "DELIVERER_PIDS": "",
        "WEB_DATABASE_URL": _as_role(database_url, WEB_ROLE, home.secret("web_password")),
        "STORAGE_URL": storage.as_uri(),
        "UPLOAD_FOLDER": str(uploads),
        "SECRET_KEY": home.secret("secret_key"),
        "PORT": str(port),
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        # So that an integrator's program on this machine can be told.
        "WEBHOOK_ALLOWED_HOSTS": "localhost,127.0.0.1,[::1]",
    }
    return chosen | {name: given[name] for name in sorted(SETTINGS & given.keys())}


def _provider(home: Home, given: Mapping[str, str]) -> dict[str, str]:
    if wants_simulated_provider(given):
        return {
            "PROVIDER_URL": f"http://127.0.0.1:{home.port('provider')}/v1",
            "PROVIDER_API_KEY": SIMULATED_KEY,
            "PRICES_FILE": str(SIMULATED_PRICES),
        }
    return {
        "PROVIDER_URL": given.get("PROVIDER_URL") or given.get("OPENAI_BASE_URL") or OPENAI_URL,
        # A model service on one's own machine often has no key, and the client will not do without.
        "PROVIDER_API_KEY": given.get("PROVIDER_API_KEY") or given.get("OPENAI_API_KEY") or "none",
    }


def _stripe(home: Home) -> dict[str, str]:
    """STRIPE_URL is for people and tests: where its pages and its own addresses are."""
    url = f"http://127.0.0.1:{home.port('stripe')}"
    return {
        "STRIPE_URL": url,
        "STRIPE_SECRET_KEY": STANDIN_KEY,
        "STRIPE_API_BASE": url,
        "STRIPE_WEBHOOK_SECRET": f"whsec_{home.secret('stripe_events')}",
    }


def _as_role(url: str, role: str, password: str) -> str:
    """The same database, as another role."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{role}:{password}@{parts.netloc.rpartition('@')[2]}"))
