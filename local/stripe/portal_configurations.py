"""/v1/billing_portal/configurations: what the customer portal lets people do."""

from local.stripe import events, lists
from local.stripe.call import Call
from local.stripe.errors import invalid, missing
from local.stripe.forms import Params
from local.stripe.ids import new_id
from local.stripe.store import Object
from local.stripe.subscription_items import PRORATIONS

KIND = "billing_portal.configuration"
URL = "/v1/billing_portal/configurations"
UPDATES = ("price", "quantity", "promotion_code")


def create(call: Call) -> Object:
    if not call.params.has("features"):
        raise missing("features")
    configuration: Object = {
        "id": new_id("bpc"),
        "object": KIND,
        "active": True,
        "application": None,
        "business_profile": {"headline": None, "privacy_policy_url": None, "terms_of_service_url": None},
        "created": call.now,
        "default_return_url": None,
        "features": {
            "customer_update": {"allowed_updates": [], "enabled": False},
            "invoice_history": {"enabled": False},
            "payment_method_update": {"enabled": False, "payment_method_configuration": None},
            "subscription_cancel": {
                "cancellation_reason": {"enabled": False, "options": []},
                "enabled": False,
                "mode": "at_period_end",
                "proration_behavior": "none",
            },
            "subscription_update": {
                "billing_cycle_anchor": "unchanged",
                "default_allowed_updates": [],
                "enabled": False,
                "products": [],
                "proration_behavior": "none",
                "schedule_at_period_end": {"conditions": []},
                "trial_update_behavior": "end_trial",
            },
        },
        "is_default": False,
        "livemode": False,
        "login_page": {"enabled": False, "url": None},
        "metadata": {},
        "name": None,
        "updated": call.now,
    }
    _read(call, configuration)
    events.tell(call, f"{KIND}.created", call.store.put(configuration))
    return configuration


def retrieve(call: Call) -> Object:
    return call.named(KIND)


def update(call: Call) -> Object:
    configuration = call.named(KIND)
    active = call.params.boolean("active")
    if active is not None:
        configuration["active"] = active
    _read(call, configuration)
    configuration["updated"] = call.now
    events.tell(call, f"{KIND}.updated", call.store.put(configuration))
    return configuration


def list_(call: Call) -> Object:
    active, default = call.params.boolean("active"), call.params.boolean("is_default")
    found = [
        one for one in call.store.all(KIND) if active in (None, one["active"]) and default in (None, one["is_default"])
    ]
    return lists.page(call, URL, found)


def _read(call: Call, configuration: Object) -> None:
    params = call.params
    profile = params.group("business_profile")
    for name in configuration["business_profile"]:
        if profile.has(name):
            configuration["business_profile"][name] = profile.text(name)
    if params.has("default_return_url"):
        configuration["default_return_url"] = params.text("default_return_url")
    if params.has("name"):
        configuration["name"] = params.text("name")
    configuration["metadata"] = params.metadata(configuration["metadata"])
    params.pass_over("login_page")
    given, features = params.group("features"), configuration["features"]
    given.pass_over("subscription_pause")
    for name, feature in features.items():
        one = given.group(name)
        enabled = one.boolean("enabled")
        if enabled is not None:
            feature["enabled"] = enabled
        elif given.has(name) and not feature["enabled"] and call.id == "":
            raise missing(f"features[{name}][enabled]")
    customer = given.group("customer_update")
    if customer.has("allowed_updates"):
        features["customer_update"]["allowed_updates"] = customer.texts("allowed_updates")
    given.group("payment_method_update").pass_over("payment_method_configuration")
    _read_cancel(given.group("subscription_cancel"), features["subscription_cancel"])
    _read_update(call, given.group("subscription_update"), features["subscription_update"])


def _read_cancel(given: Params, feature: Object) -> None:
    feature["mode"] = given.choice("mode", ("at_period_end", "immediately"), feature["mode"])
    feature["proration_behavior"] = given.choice("proration_behavior", PRORATIONS, feature["proration_behavior"])
    if given.has("cancellation_reason"):
        reason = given.group("cancellation_reason")
        enabled = reason.boolean("enabled") or False
        feature["cancellation_reason"] = {"enabled": enabled, "options": reason.texts("options")}


def _read_update(call: Call, given: Params, feature: Object) -> None:
    if given.has("default_allowed_updates"):
        feature["default_allowed_updates"] = given.texts("default_allowed_updates")
        if not {*feature["default_allowed_updates"]} <= {*UPDATES}:
            raise invalid("Invalid features[subscription_update][default_allowed_updates]")
    feature["proration_behavior"] = given.choice("proration_behavior", PRORATIONS, feature["proration_behavior"])
    given.pass_over("billing_cycle_anchor", "schedule_at_period_end", "trial_update_behavior")
    if given.has("products"):
        feature["products"] = [_product(call, one) for one in given.groups("products")]
    if feature["enabled"] and "price" in feature["default_allowed_updates"] and not feature["products"]:
        raise missing("features[subscription_update][products]")


def _product(call: Call, given: Params) -> Object:
    product = call.living("product", given.need("product"), "features[subscription_update][products]")
    given.pass_over("adjustable_quantity")
    ids = given.texts("prices")
    for id in ids:
        price = call.existing("price", id, "features[subscription_update][products]")
        if price["product"] != product["id"]:
            raise invalid(f"The price {id} is not of the product {product['id']}.")
    return {"adjustable_quantity": {"enabled": False}, "prices": ids, "product": product["id"]}
