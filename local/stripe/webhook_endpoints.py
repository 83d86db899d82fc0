"""/v1/webhook_endpoints. The secret is told once, in the answer to its creation."""

from urllib.parse import urlsplit

from local.stripe import clocks, lists
from local.stripe.call import Call
from local.stripe.errors import invalid, missing
from local.stripe.events import API_VERSION
from local.stripe.ids import new_id, random_digits
from local.stripe.store import Object, Store

URL = "/v1/webhook_endpoints"
SECRET = "_secret"
SECRET_DIGITS = 32
GIVEN = "Given when the stand-in was started"


def create(call: Call) -> Object:
    enabled = call.params.texts("enabled_events")
    if not enabled:
        raise missing("enabled_events")
    version = call.params.text("api_version")
    url = _url(call)
    call.params.pass_over("connect")
    secret = f"whsec_{random_digits(SECRET_DIGITS)}"
    endpoint = make(call.store, url, enabled, secret, version, call.params.text("description"), call.params.metadata())
    return {**endpoint, "secret": secret}


def make(
    store: Store,
    url: str,
    enabled: list[str],
    secret: str,
    version: str | None = None,
    description: str | None = None,
    metadata: dict[str, str] | None = None,
) -> Object:
    return store.put(
        {
            "id": new_id("we"),
            "object": "webhook_endpoint",
            "api_version": version,
            "application": None,
            "created": clocks.now(store),
            "description": description,
            "enabled_events": enabled,
            "livemode": False,
            "metadata": metadata or {},
            "status": "enabled",
            "url": url,
            SECRET: secret,
        }
    )


def given_at_start(store: Store, url: str, secret: str) -> None:
    """The endpoint of the stack that started us, which has to know the secret before anybody can ask for it."""
    for endpoint in store.all("webhook_endpoint"):
        # By its description too: the stack may have another port than last time.
        if not endpoint.get("deleted") and (endpoint["url"] == url or endpoint["description"] == GIVEN):
            store.put({**endpoint, "url": url, "status": "enabled", SECRET: secret})
            return
    make(store, url, ["*"], secret, API_VERSION, GIVEN)


def retrieve(call: Call) -> Object:
    return call.living("webhook_endpoint", call.id)


def update(call: Call) -> Object:
    endpoint = call.living("webhook_endpoint", call.id)
    if call.params.has("enabled_events"):
        endpoint["enabled_events"] = call.params.texts("enabled_events") or endpoint["enabled_events"]
    if call.params.has("url"):
        endpoint["url"] = _url(call)
    if call.params.has("description"):
        endpoint["description"] = call.params.text("description")
    disabled = call.params.boolean("disabled")
    if disabled is not None:
        endpoint["status"] = "disabled" if disabled else "enabled"
    endpoint["metadata"] = call.params.metadata(endpoint["metadata"])
    return call.store.put(endpoint)


def delete(call: Call) -> Object:
    endpoint = call.living("webhook_endpoint", call.id)
    call.store.put({**endpoint, "deleted": True})
    return {"id": endpoint["id"], "object": "webhook_endpoint", "deleted": True}


def list_(call: Call) -> Object:
    return lists.page(call, URL, call.store.all("webhook_endpoint"))


def _url(call: Call) -> str:
    url = call.params.need("url")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise invalid("Invalid URL: it must be an address of http or https.", "url", "url_invalid")
    return url
