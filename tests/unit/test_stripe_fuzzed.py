"""Nothing that is sent to the stand-in for Stripe makes it fail: calls that are nearly right say what is wrong."""

import socket
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.stripe.routes import ROUTES
from tests.stripe_process import KEY, StandIn, running_standin
from tests.stripe_shop import FORM, START, Shop

EXAMPLES = 120
NAMES = [
    *("active", "amount", "billing_scheme", "cancel_at", "cancel_at_period_end", "created", "created[gte]", "currency"),
    *("customer", "customer_mapping[event_payload_key]", "default_aggregation[formula]", "display_name", "email"),
    *("enabled_events[]", "ending_before", "event_name", "expand[]", "expires_at", "features", "frozen_time"),
    *("features[subscription_cancel][enabled]", "features[subscription_update][products][0][product]", "identifier"),
    *("invoice_now", "items", "items[0][id]", "items[0][price]", "items[0][quantity]", "items[1][price]", "limit"),
    *("line_items[0][price]", "line_items[0][quantity]", "lookup_key", "lookup_keys[]", "metadata", "metadata[a]"),
    *("mode", "name", "payload", "payload[stripe_customer_id]", "payload[value]", "price", "product", "recurring"),
    *("product_data[name]", "proration_behavior", "recurring[interval]", "recurring[interval_count]", "return_url"),
    *("recurring[meter]", "recurring[usage_type]", "start_time", "end_time", "starting_after", "status", "url"),
    *("subscription", "success_url", "test_clock", "tiers[0][up_to]", "tiers[0][unit_amount_decimal]", "tiers_mode"),
    *("timestamp", "transfer_lookup_key", "type", "unit_amount", "unit_amount_decimal", "value_grouping_window"),
]
VALUES = [
    *("", "0", "1", "-1", str(2**63), str(2**63 - 1), str(START), "1e400", "nan", "Infinity", "0.0000000000001", "inf"),
    *("true", "false", "usd", "month", "year", "day", "hour", "metered", "licensed", "sum", "subscription", "now", "*"),
    *("tiered", "all", "graduated", "http://app.example/", "http://[", "x" * 6_000, "\u0663", "\ufffd", "\U0001f600"),
    *("latest_invoice", "data.customer", "items.data.price.tiers", "a.b.c.d.e", "always_invoice", "at_period_end"),
]


@pytest.fixture(scope="module")
def known(shared_standin: StandIn) -> dict[str, str]:
    """The id of one of everything."""
    shop = Shop(shared_standin)
    plan = shop.plan()
    customer, clock = shop.customer()
    subscription = shop.v1.subscriptions.retrieve(shop.subscribe(customer, plan))
    session = shop.v1.checkout.sessions.create(
        {"mode": "subscription", "line_items": [{"price": plan.licensed, "quantity": 1}], "success_url": "http://a/"}
    )
    portal = shop.v1.billing_portal.configurations.create({"features": {"invoice_history": {"enabled": True}}})
    return {
        "customer": customer,
        "clock": clock,
        "subscription": subscription.id,
        "item": subscription["items"].data[0].id,
        "invoice": shop.invoices(customer)[0].id,
        "product": plan.product,
        "licensed": plan.licensed,
        "metered": plan.metered,
        "meter": shop.meter,
        "event_name": shop.event_name,
        "session": session.id,
        "configuration": portal.id,
    }


RIGHT = {
    "/v1/customers": "email=a@example.com&metadata[a]=b",
    "/v1/prices": "currency=usd&product={product}&unit_amount=1&recurring[interval]=month",
    "/v1/billing/meters": "display_name=Tokens&event_name=x&default_aggregation[formula]=sum",
    "/v1/billing/meter_events": "event_name={event_name}&payload[stripe_customer_id]={customer}&payload[value]=1",
    "/v1/billing/meters/{id}/event_summaries": "customer={customer}&start_time=0&end_time=3600",
    "/v1/checkout/sessions": "mode=subscription&line_items[0][price]={licensed}&success_url=http://a/",
    "/v1/subscriptions": "customer={customer}&items[0][price]={licensed}&items[1][price]={metered}",
    "/v1/subscriptions/{id}": "items[0][id]={item}&items[0][price]={licensed}&proration_behavior=always_invoice",
    "/v1/subscription_items": "subscription={subscription}&price={metered}",
    "/v1/billing_portal/configurations": "features[subscription_cancel][enabled]=true",
    "/v1/billing_portal/sessions": "customer={customer}&configuration={configuration}",
    "/v1/test_helpers/test_clocks/{id}/advance": f"frozen_time={START + 40 * 86_400}",
    "/v1/webhook_endpoints": "url=http://127.0.0.1:9/&enabled_events[]=none",
}
OF_ADDRESS = {"/v1/billing/meters": "meter", "/v1/subscriptions": "subscription", "/v1/test_helpers": "clock"}


@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_no_call_fails(shared_standin: StandIn, known: dict[str, str], data: st.DataObject) -> None:
    method, path, _ = data.draw(st.sampled_from(ROUTES))
    value = st.one_of(st.sampled_from(VALUES), st.sampled_from([*known.values()]), st.text(max_size=20))
    changes = data.draw(st.dictionaries(st.sampled_from(NAMES), st.none() | value, max_size=3))
    fields = {**dict(parse_qsl(RIGHT.get(path, "").format(**known))), **changes}
    form = urlencode({name: value for name, value in fields.items() if value is not None}, errors="replace")
    right = [known[name] for beginning, name in OF_ADDRESS.items() if path.startswith(beginning)]
    id = data.draw(st.sampled_from([*(right * 5 or known.values()), "none", "%00", "%FF", "a%2Fb"]))
    address = path.replace("{id}", id)
    headers = {"Authorization": f"Bearer {KEY}"}
    if method == "POST":
        status, _, content = shared_standin.ask(method, address, form, headers | FORM)
    else:
        status, _, content = shared_standin.ask(method, f"{address}?{form}", None, headers)
    assert status < 500, content


@settings(max_examples=EXAMPLES // 4)
@given(data=st.data())
def test_no_page_fails(shared_standin: StandIn, data: st.DataObject) -> None:
    shop = Shop(shared_standin)
    customer, _ = shop.customer()
    configuration = shop.v1.billing_portal.configurations.create(
        {"features": {"subscription_cancel": {"enabled": True}}}
    ).id
    url = shop.v1.billing_portal.sessions.create(
        {"customer": customer, "configuration": configuration, "return_url": "http://a/"}
    ).url
    action = data.draw(st.sampled_from(["pay", "cancel", "resume", "switch", "card_pays", "fly", ""]))
    text = st.text(max_size=20)
    fields = data.draw(st.dictionaries(st.sampled_from(["subscription", "invoice", "price", "card", "email"]), text))
    page = shop.press(url, action, **{name: value.encode(errors="replace").decode() for name, value in fields.items()})
    assert page.status < 500


@pytest.mark.parametrize("key", ["", "x" * 256, "\xe9", "\t"])
def test_no_idempotency_key_makes_a_call_fail(shared_standin: StandIn, key: str) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": key}
    assert shared_standin.ask("POST", "/v1/customers", "", headers)[0] in (200, 400)


@pytest.mark.parametrize("path", ["/v1/customers", "/_standin/settings", "/p/session/test_1"])
def test_a_client_that_dies_while_it_sends_or_sends_what_cannot_be_unpacked_is_no_failure_of_the_stand_in(
    path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    headers = f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\n"
    cut_off = [
        f"{headers}Content-Length: 100\r\n\r\nemail=",
        f"{headers}Transfer-Encoding: chunked\r\n\r\n5\r\nemail",
    ]
    with running_standin() as standin:
        for sent in cut_off:
            with socket.create_connection(("127.0.0.1", standin.port), timeout=10) as client:
                client.sendall(sent.encode())
                # By then it reads the body.
                standin.admin("GET", "clock")
        status, _, _ = standin.ask(
            "POST", path, b"no gzip", {"Authorization": f"Bearer {KEY}", "Content-Encoding": "gzip"}
        )
        assert status < 500
        standin.admin("GET", "clock")
    assert capfd.readouterr().err == ""
