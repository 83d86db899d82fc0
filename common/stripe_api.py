"""The door to Stripe: the one file that knows its package.

Whoever calls it does so within `calling()` and with no transaction open. A call that is made again by itself, after a
lost answer, is made under the same idempotency key, so that Stripe does it once.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from common import json_text
from common.errors import Conflict, InvalidRequest, Unavailable
from common.once import Once
from common.settings import settings

if TYPE_CHECKING:
    # For whoever works with what Stripe answers.
    from stripe import Price as Price
    from stripe import RequestsClient
    from stripe import StripeClient as StripeClient
    from stripe import Subscription as Subscription
    from stripe.params import PriceCreateParamsTier as PriceCreateParamsTier
    from stripe.params import SubscriptionUpdateParamsItem as SubscriptionUpdateParamsItem
    from stripe.params.checkout import SessionCreateParams as SessionCreateParams
    from stripe.params.checkout import SessionCreateParamsLineItem as SessionCreateParamsLineItem

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5
ANSWER_SECONDS = 30
CALLS_MADE_AGAIN = 2


class StripeAway(Unavailable):
    """No answer came, or one that says to ask again. Whether the call took effect is not known."""


class StripeBusy(StripeAway):
    """Stripe did not do it, for now: it had too much to do, or does not know the key."""


class StripeFailed(StripeAway):
    """It answered with an error of its own, which it repeats for a day under the same idempotency key."""


class StripeRefused(Conflict):
    """Stripe did not do it, and will not if it is asked again. `reason` is its own code or kind of the error,
    `param` the parameter that it names, and `told` what it says."""

    def __init__(self, told: str, reason: str, param: str | None, status: int | None) -> None:
        super().__init__(f"Stripe refused this: {told}", code="stripe_refused")
        self.told = told
        self.reason = reason
        self.stripe_param = param
        self.status = status


class Forged(InvalidRequest):
    """What claims to be an event of Stripe's is not signed by it, or was signed too long ago."""


def is_on() -> bool:
    """Whether this installation sells anything."""
    return settings().stripe_secret_key is not None


def is_live() -> bool:
    """Whether its money is real."""
    return settings().batchyard_env == "production"


def has_stand_in() -> bool:
    """Whether something else answers in Stripe's place."""
    return settings().stripe_api_base is not None


def version() -> Any:
    """The version of Stripe's API that the package speaks; its own types list all that there ever were."""
    import stripe

    return stripe.api_version


def metadatum(metadata: Any, name: str) -> str | None:
    """One of the metadata of an object, which the package has as an object too."""
    return metadata[name] if metadata is not None and name in metadata else None


@Once
def client() -> "StripeClient":
    """Stripe, for all threads of this process. Raises Conflict where there is no key."""
    key = settings().stripe_secret_key
    if key is None:
        raise Conflict("Nothing is sold here: the operator has set no STRIPE_SECRET_KEY.", code="billing_off")
    # Here, as it takes half a second and most processes never need it.
    import stripe

    # It would write down every call, and at DEBUG what an answer holds: also a webhook's secret.
    logging.getLogger("stripe").setLevel(logging.WARNING)
    stripe.enable_telemetry = False
    base = settings().stripe_api_base
    return stripe.StripeClient(
        key.get_secret_value(),
        base_addresses={"api": base, "meter_events": base} if base is not None else {},
        http_client=_connections(),
        max_network_retries=CALLS_MADE_AGAIN,
    )


@Once
def _connections() -> "RequestsClient":
    """Those of this process, for each thread its own."""
    import stripe

    # A stand-in stands on this network, where a proxy that the environment names has no business.
    proxy: Any = {"http": "", "https": ""} if has_stand_in() else None
    return stripe.RequestsClient(timeout=(CONNECT_SECONDS, ANSWER_SECONDS), proxy=proxy)


@contextmanager
def calling() -> Iterator["StripeClient"]:
    """The client, with what can go wrong as errors of ours: StripeAway and StripeRefused."""
    found = client()
    import stripe

    try:
        yield found
    except (stripe.AuthenticationError, stripe.PermissionError) as error:
        # Whoever asked can do nothing about it, and the key is nobody's business.
        log.error("Stripe does not take the key of this installation", extra={"status": error.http_status})
        raise StripeBusy("Stripe does not take this installation's key: its operator can mend that.") from None
    except stripe.RateLimitError as error:
        raise _away(error, StripeBusy) from None
    except stripe.APIConnectionError as error:
        raise _away(error) from None
    except stripe.StripeError as error:
        # 409 is another call under the same idempotency key, which has not ended yet.
        if error.http_status is None or error.http_status in (409, 429):
            raise _away(error) from None
        if error.http_status >= 500:
            raise _away(error, StripeFailed) from None
        kind = "idempotency_error" if isinstance(error, stripe.IdempotencyError) else "refused"
        told = error.user_message or "it gave no reason."
        param = getattr(error, "param", None)
        raise StripeRefused(told, error.code or kind, param, error.http_status) from None


def _away(error: Exception, kind: type[StripeAway] = StripeAway) -> StripeAway:
    log.warning("Stripe does not answer", extra={"error": type(error).__name__})
    return kind("Stripe does not answer: send the request again.", code="stripe_away")


def signed_event(body: bytes, signature: str) -> dict[str, Any]:
    """The event that Stripe signed; what is in it has still to be read. Raises Forged."""
    secret = settings().stripe_webhook_secret
    if not is_on() or secret is None:
        raise Conflict("No events are taken here: the operator has set no STRIPE_WEBHOOK_SECRET.", code="billing_off")
    import stripe

    try:
        # It compares text, which fails where a header is more than ASCII.
        signature.encode("ascii")
        stripe.WebhookSignature.verify_header(
            body, signature, secret.get_secret_value(), stripe.Webhook.DEFAULT_TOLERANCE
        )
        event = json_text.loads(body)
    except (stripe.SignatureVerificationError, ValueError):
        raise Forged(
            "This is not signed by Stripe for this endpoint, or not lately.", param="Stripe-Signature", code="forged"
        ) from None
    if not isinstance(event, dict):
        raise Forged("This is no event of Stripe's.", code="forged")
    return event
