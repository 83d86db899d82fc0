"""Checkout and the customer portal of the stand-in for Stripe, as a browser without JavaScript uses them."""

from typing import Any, cast

import pytest
import stripe

from tests.stripe_shop import DAY, START, Page, Plan, Shop

FIRST_END = START + 31 * DAY
SUCCESS = "http://app.example:8000/billing?session={CHECKOUT_SESSION_ID}"


def checkout(shop: Shop, plan: Plan, **given: Any) -> stripe.checkout.Session:
    params: stripe.params.checkout.SessionCreateParams = {
        "mode": "subscription",
        "line_items": [{"price": plan.licensed, "quantity": 1}, {"price": plan.metered}],
        "success_url": SUCCESS,
        "cancel_url": "http://app.example:8000/plans",
        "client_reference_id": "acct_1",
        "metadata": {"account_id": "acct_1"},
        "subscription_data": {"metadata": {"account_id": "acct_1"}},
    }
    return shop.v1.checkout.sessions.create(cast(stripe.params.checkout.SessionCreateParams, {**params, **given}))


def address(session: stripe.checkout.Session) -> str:
    assert session.url is not None
    return session.url


def portal(shop: Shop, customer: str, *plans: Plan, mode: str = "at_period_end") -> str:
    features: stripe.params.billing_portal.ConfigurationCreateParamsFeatures = {
        "subscription_cancel": {"enabled": True, "mode": mode},
        "subscription_update": {
            "enabled": bool(plans),
            "default_allowed_updates": ["price"],
            "proration_behavior": "always_invoice",
            "products": [{"product": plan.product, "prices": [plan.licensed]} for plan in plans],
        },
    }
    configuration = shop.v1.billing_portal.configurations.create({"features": features})
    return shop.v1.billing_portal.sessions.create(
        {"customer": customer, "configuration": configuration.id, "return_url": "http://app.example:8000/billing"}
    ).url


def subscription_of(shop: Shop, customer: str) -> stripe.Subscription:
    return shop.v1.subscriptions.list({"customer": customer, "status": "all"}).data[0]


def test_checkout_says_what_it_costs_and_needs_no_script(shop: Shop) -> None:
    customer, _ = shop.customer()
    page = shop.see(address(checkout(shop, shop.plan("Pro"), customer=customer)))
    assert page.status == 200
    assert page.buttons == ["Pay", "Decline"]
    for words in ("<h1>Subscribe to Pro</h1>", "$49.00 a month", "Card that pays", "Cancel and go back"):
        assert words in page.text
    assert "<script" not in page.text
    assert "email" not in page.text
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'")
    assert "form-action 'self' http://app.example:8000;" in policy


def test_paying_makes_an_active_subscription_and_goes_to_where_the_app_wants(shop: Shop) -> None:
    customer, _ = shop.customer()
    session = checkout(shop, shop.plan(), customer=customer)
    page = shop.press(address(session), "pay", card="pays")
    assert (page.status, page.headers["location"]) == (303, SUCCESS.replace("{CHECKOUT_SESSION_ID}", session.id))
    done = shop.v1.checkout.sessions.retrieve(session.id)
    assert (done.status, done.payment_status, done.amount_total, done.url) == ("complete", "paid", 4_900, None)
    made = subscription_of(shop, customer)
    assert (made.id, made.status) == (done.subscription, "active")
    assert made.metadata.to_dict() == {"account_id": "acct_1"}
    last = shop.events(customer)[-1]
    assert (last.type, last.data.object["client_reference_id"]) == ("checkout.session.completed", "acct_1")


def test_a_declined_card_is_said_on_the_page_and_changes_nothing(shop: Shop) -> None:
    customer, _ = shop.customer()
    session = checkout(shop, shop.plan(), customer=customer)
    page = shop.press(address(session), "decline", card="pays")
    assert (page.status, page.said("alert")) == (402, ["Your card was declined."])
    assert shop.v1.checkout.sessions.retrieve(session.id).status == "open"
    assert shop.v1.subscriptions.list({"customer": customer, "status": "all"}).data == []
    assert shop.press(address(session), "pay", card="pays").status == 303


def test_a_session_is_paid_once_however_often_the_button_is_pressed(shop: Shop) -> None:
    customer, _ = shop.customer()
    session = checkout(shop, shop.plan(), customer=customer)
    url = address(session)
    assert [shop.press(url, "pay", card="pays").status for _ in range(3)] == [303, 410, 410]
    assert len(shop.v1.subscriptions.list({"customer": customer}).data) == 1


def test_a_session_expires_by_itself_or_when_it_is_asked_to(shop: Shop) -> None:
    customer, clock = shop.customer()
    plan = shop.plan()
    first, second = (checkout(shop, plan, customer=customer) for _ in range(2))
    shop.v1.checkout.sessions.expire(first.id)
    assert shop.see(address(first)).status == 410
    shop.advance(clock, START + DAY)
    assert shop.press(address(second), "pay").status == 410
    assert [event.type for event in shop.events(customer)].count("checkout.session.expired") == 2


def test_a_visitor_without_a_customer_becomes_one_by_an_email_address(shop: Shop) -> None:
    session = checkout(shop, shop.plan())
    assert '<label for="email">Email</label>' in shop.see(address(session)).text
    shop.press(address(session), "pay", card="pays", email="new@example.com")
    made = shop.v1.checkout.sessions.retrieve(session.id).customer
    assert isinstance(made, str)
    assert shop.v1.customers.retrieve(made).email == "new@example.com"


def test_a_card_that_fails_later_pays_the_first_time_and_not_the_second(shop: Shop) -> None:
    customer, clock = shop.customer()
    shop.press(address(checkout(shop, shop.plan(), customer=customer)), "pay", card="fails_later")
    assert subscription_of(shop, customer).status == "active"
    shop.advance(clock, FIRST_END + 3_600)
    assert subscription_of(shop, customer).status == "past_due"


@pytest.mark.parametrize("url", ["", "javascript:alert(1)", "/plans", "http://", "https://a b/", "http://a:99999/"])
def test_a_session_only_goes_to_addresses_of_http(shop: Shop, url: str) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        checkout(shop, shop.plan(), success_url=url)


def test_the_portal_cancels_at_the_end_of_the_period_and_takes_it_back(shop: Shop) -> None:
    customer, clock = shop.customer()
    shop.subscribe(customer, shop.plan("Pro"))
    url = portal(shop, customer)
    subscription = subscription_of(shop, customer).id
    page = _follow(shop, url, shop.press(url, "cancel", subscription=subscription))
    assert page.said("status") == ["Your plan was cancelled."]
    assert "Resume plan" in page.buttons
    assert "15 February 2027" in page.text
    # New subscriptions are of the flexible billing mode.
    marked = subscription_of(shop, customer)
    assert (marked.status, marked.cancel_at, marked.cancel_at_period_end) == ("active", FIRST_END, False)
    page = _follow(shop, url, shop.press(url, "resume", subscription=subscription))
    assert page.said("status") == ["Your plan goes on."]
    assert "Cancel plan" in page.buttons
    shop.press(url, "cancel", subscription=subscription)
    shop.advance(clock, FIRST_END)
    assert subscription_of(shop, customer).status == "canceled"
    assert "You have no plan." in shop.see(url).text
    assert shop.press(url, "resume", subscription=subscription).said("alert") == ["This plan is over."]


def test_the_portal_cancels_at_once_where_it_is_configured_so(shop: Shop) -> None:
    customer, _ = shop.customer()
    subscription = shop.subscribe(customer, shop.plan())
    shop.press(portal(shop, customer, mode="immediately"), "cancel", subscription=subscription)
    assert subscription_of(shop, customer).status == "canceled"


def test_the_portal_switches_to_another_plan_with_its_metered_price(shop: Shop) -> None:
    customer, _ = shop.customer()
    pro, team = shop.plan("Pro"), shop.plan("Team", 9_900)
    subscription = shop.subscribe(customer, pro)
    url = portal(shop, customer, pro, team)
    page = shop.see(url)
    assert '<option value="' + team.licensed in page.text
    assert '<option value="' + pro.licensed not in page.text
    page = _follow(shop, url, shop.press(url, "switch", subscription=subscription, price=team.licensed))
    assert page.said("status") == ["Your plan was switched."]
    items = subscription_of(shop, customer)["items"].data
    assert [item.price.id for item in items] == [team.licensed, team.metered]
    assert shop.invoices(customer)[-1].total == 5_000


def test_the_portal_changes_the_card_and_pays_what_is_open(shop: Shop) -> None:
    customer, clock = shop.customer()
    shop.subscribe(customer, shop.plan())
    url = portal(shop, customer)
    shop.press(url, "card_fails")
    shop.advance(clock, FIRST_END + 3_600)
    invoice = shop.invoices(customer)[-1].id
    assert "Pay invoice" in shop.see(url).buttons
    assert shop.press(url, "pay", invoice=invoice).said("alert") == ["Your card was declined."]
    assert shop.v1.invoices.retrieve(invoice).attempt_count == 2
    shop.press(url, "card_pays")
    assert _follow(shop, url, shop.press(url, "pay", invoice=invoice)).said("status") == ["The invoice was paid."]
    assert subscription_of(shop, customer).status == "active"


def test_a_portal_reaches_nothing_of_another_customer(shop: Shop) -> None:
    mine, _ = shop.customer()
    other, _ = shop.customer()
    plan = shop.plan()
    theirs = shop.subscribe(other, plan)
    url = portal(shop, mine, plan)
    for action in ("cancel", "resume", "switch"):
        page = shop.press(url, action, subscription=theirs, price=plan.licensed)
        assert page.said("alert") == ["This plan is over."]
    assert shop.press(url, "pay", invoice=shop.invoices(other)[0].id).said("alert") == ["This invoice is not open."]
    assert subscription_of(shop, other).cancel_at is None


def test_a_portal_wants_a_configuration_as_stripe_does(shop: Shop) -> None:
    customer, _ = shop.customer()
    with pytest.raises(stripe.InvalidRequestError):
        shop.v1.billing_portal.sessions.create({"customer": customer, "return_url": "http://app.example/"})


@pytest.mark.parametrize("path", ["/c/pay/cs_test_none", "/p/session/test_none"])
def test_an_address_of_a_page_that_is_not_there_is_a_page_of_its_own(shop: Shop, path: str) -> None:
    for page in (shop.see(path), shop.press(path, "pay")):
        assert (page.status, page.headers["content-type"].partition(";")[0]) == (404, "text/html")


@pytest.mark.parametrize("form", ["", "action=%ff", "action[a]=b", "action=fly", "x" * 1_000])
def test_no_form_breaks_a_page(shop: Shop, form: str) -> None:
    customer, _ = shop.customer()
    for url in (address(checkout(shop, shop.plan(), customer=customer)), portal(shop, customer)):
        status, _, _ = shop.standin.ask("POST", url.removeprefix(shop.standin.url), form)
        assert status == 402


def test_what_people_named_is_text_on_the_page(shop: Shop) -> None:
    customer, _ = shop.customer()
    page = shop.see(address(checkout(shop, shop.plan("<b>Pro</b> & more"), customer=customer)))
    assert "&lt;b&gt;Pro&lt;/b&gt; &amp; more" in page.text
    assert "<b>Pro" not in page.text


def _follow(shop: Shop, url: str, page: Page) -> Page:
    assert page.status == 303, page.text
    return shop.see(url.partition("/p/")[0] + page.headers["location"])
