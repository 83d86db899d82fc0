"""The stand-in for Stripe as the stripe package sees it: keys, parameters, errors, idempotency, lists and expansion."""

import http.client
import json
from pathlib import Path
from typing import Any

import pytest
import stripe

from tests.stripe_process import KEY, StandIn, running_standin
from tests.stripe_shop import FORM, START, Shop

BEARER = {"Authorization": f"Bearer {KEY}"}


def refused(standin: StandIn, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, Any]:
    status, _, content = standin.ask(method, path, body, {**BEARER, **FORM, **headers})
    return status, json.loads(content)["error"]


@pytest.mark.parametrize("key", ["", "Bearer", "Bearer ", "Basic c2s6", "Bearer sk_live_x", "Bearer pk_test_x"])
def test_only_a_test_key_is_taken(standin: StandIn, key: str) -> None:
    status, _, content = standin.ask("GET", "/v1/customers", headers={"Authorization": key})
    assert (status, json.loads(content)["error"]["type"]) == (401, "invalid_request_error")


def test_it_listens_on_loopback_alone(standin: StandIn) -> None:
    assert standin.url.startswith("http://127.0.0.1:")


def test_a_customer_is_made_found_changed_and_deleted(shop: Shop) -> None:
    made = shop.v1.customers.create({"email": "ada@example.com", "metadata": {"account_id": "acct_1", "gone": "x"}})
    changed = shop.v1.customers.update(made.id, {"name": "Ada", "metadata": {"gone": ""}})
    assert (changed.name, changed.email) == ("Ada", "ada@example.com")
    assert changed.metadata is not None
    assert changed.metadata.to_dict() == {"account_id": "acct_1"}
    assert made.id in [one.id for one in shop.v1.customers.list({"email": "ada@example.com", "limit": 100}).data]
    assert shop.v1.customers.delete(made.id).deleted
    assert shop.v1.customers.retrieve(made.id).deleted
    assert made.id not in [one.id for one in shop.v1.customers.list({"limit": 100}).data]
    with pytest.raises(stripe.InvalidRequestError) as error:
        shop.v1.customers.update(made.id, {"name": "Bob"})
    assert (error.value.http_status, error.value.code) == (404, "resource_missing")


def test_what_nobody_reads_is_refused_by_its_name_also_within_a_group(standin: StandIn) -> None:
    status, error = refused(standin, "POST", "/v1/customers", "emial=ada%40example.com")
    assert (status, error["code"], error["param"]) == (400, "parameter_unknown", "emial")
    body = "product_data[name]=Pro&currency=usd&unit_amount=1&recurring[interval]=month&recurring[intervall_count]=2"
    status, error = refused(standin, "POST", "/v1/prices", body)
    assert (status, error["param"]) == (400, "recurring[intervall_count]")


def test_a_refused_call_leaves_nothing_behind(standin: StandIn, shop: Shop) -> None:
    before = len(shop.v1.customers.list({"limit": 100}).data)
    assert refused(standin, "POST", "/v1/customers", "email=ada%40example.com&emial=x")[0] == 400
    assert len(shop.v1.customers.list({"limit": 100}).data) == before


@pytest.mark.parametrize(
    "body",
    [
        "%ff",
        "a[=1",
        "a]b=1",
        "[]=1",
        "a=1&a[b]=2",
        "a[b]=2&a=1",
        "a" + "[b]" * 9 + "=1",
        "email[]=x",
        "metadata=1",
        "metadata[a][b]=1",
        f"metadata[{'k' * 41}]=v",
        "&".join(f"metadata[k{number}]=v" for number in range(51)),
    ],
)
def test_a_malformed_form_is_an_error_of_the_caller(standin: StandIn, body: str) -> None:
    status, error = refused(standin, "POST", "/v1/customers", body)
    assert (status, error["type"]) == (400, "invalid_request_error")


def test_a_body_too_large_and_an_address_that_is_not_there_are_no_failures(standin: StandIn) -> None:
    assert standin.ask("POST", "/v1/customers", "email=" + "x" * 2**21, {**BEARER, **FORM})[0] == 413
    assert refused(standin, "GET", "/v1/charges")[0] == 404
    assert refused(standin, "PUT", "/v1/customers")[0] == 404
    assert refused(standin, "GET", "/v1/customers/cus_none") == (
        404,
        {
            "type": "invalid_request_error",
            "code": "resource_missing",
            "message": "No such customer: 'cus_none'",
            "param": "id",
        },
    )


def test_the_same_key_and_parameters_have_the_same_answer_and_others_are_refused(shop: Shop) -> None:
    first = shop.v1.customers.create({"email": "ada@example.com"}, {"idempotency_key": "one"})
    again = shop.v1.customers.create({"email": "ada@example.com"}, {"idempotency_key": "one"})
    assert again.id == first.id
    assert again.last_response is not None
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    with pytest.raises(stripe.IdempotencyError):
        shop.v1.customers.create({"email": "bob@example.com"}, {"idempotency_key": "one"})


def test_a_refused_call_uses_up_no_key(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        shop.v1.prices.create({"currency": "usd", "product": "prod_none"}, {"idempotency_key": "two"})
    product = shop.v1.products.create({"name": "Pro"}).id
    made = shop.v1.prices.create({"currency": "usd", "product": product, "unit_amount": 1}, {"idempotency_key": "two"})
    assert made.unit_amount == 1


def test_an_error_before_a_call_uses_up_no_key_and_one_after_it_is_its_answer(shop: Shop) -> None:
    shop.standin.admin("PUT", "settings", faults=[{"fault": "error"}])
    with pytest.raises(stripe.APIError):
        shop.v1.customers.create({"email": "before@example.com"}, {"idempotency_key": "three"})
    shop.standin.admin("PUT", "settings")
    shop.v1.customers.create({"email": "before@example.com"}, {"idempotency_key": "three"})
    shop.standin.admin("PUT", "settings", faults=[{"fault": "error_after"}])
    with pytest.raises(stripe.APIError):
        shop.v1.customers.create({"email": "after@example.com"}, {"idempotency_key": "four"})
    shop.standin.admin("PUT", "settings")
    with pytest.raises(stripe.APIError):
        shop.v1.customers.create({"email": "after@example.com"}, {"idempotency_key": "four"})
    assert len(shop.v1.customers.list({"email": "before@example.com"}).data) == 1
    assert len(shop.v1.customers.list({"email": "after@example.com"}).data) == 1


def test_a_connection_is_dropped_before_a_call_or_after_it(shop: Shop) -> None:
    for fault, email, made in (("drop", "lost@example.com", 0), ("drop_after", "kept@example.com", 1)):
        shop.standin.admin("PUT", "settings", faults=[{"fault": fault}])
        with pytest.raises(stripe.APIConnectionError):
            shop.v1.customers.create({"email": email}, {"idempotency_key": f"five {fault}"})
        shop.standin.admin("PUT", "settings")
        assert len(shop.v1.customers.list({"email": email}).data) == made
        shop.v1.customers.create({"email": email}, {"idempotency_key": f"five {fault}"})
        assert len(shop.v1.customers.list({"email": email}).data) == 1


def test_faults_strike_the_share_and_the_path_that_they_are_for(shop: Shop) -> None:
    rule = {"fault": "rate_limit", "share": 0.5, "path": "/v1/customers"}
    shop.standin.admin("PUT", "settings", faults=[rule])
    struck = 0
    for _ in range(200):
        try:
            shop.v1.customers.list()
        except stripe.RateLimitError:
            struck += 1
    assert 50 < struck < 150
    shop.v1.products.list()
    assert shop.standin.admin("GET", "counts")["by_fault"]["rate_limit"] == struck


def test_the_package_tries_again_what_it_may(standin: StandIn) -> None:
    standin.admin("PUT", "settings", faults=[{"fault": "drop_after", "share": 0.5, "path": "/v1/customers"}])
    v1 = standin.client(retries=10).v1
    made = [v1.customers.create({"email": "often@example.com"}).id for _ in range(3)]
    standin.admin("PUT", "settings")
    assert {one.id for one in v1.customers.list({"email": "often@example.com"}).data} == {*made}


def test_lists_go_from_page_to_page_the_newest_first(shop: Shop) -> None:
    made = [shop.v1.products.create({"name": f"Product {number}"}).id for number in range(25)]
    found = [product.id for product in shop.v1.products.list({"limit": 10}).auto_paging_iter()]
    assert found[:25] == made[::-1]
    page = shop.v1.products.list({"limit": 3, "ending_before": made[20]})
    assert [product.id for product in page.data] == [made[23], made[22], made[21]]
    with pytest.raises(stripe.InvalidRequestError):
        shop.v1.products.list({"starting_after": "prod_none"})
    with pytest.raises(stripe.InvalidRequestError):
        shop.v1.products.list({"limit": 101})


def test_what_is_asked_for_is_expanded_and_the_rest_is_an_id(shop: Shop) -> None:
    plan = shop.plan()
    customer, _ = shop.customer()
    made = shop.v1.subscriptions.create(
        {"customer": customer, "items": plan.items, "expand": ["latest_invoice", "items.data.price.tiers"]}
    )
    assert isinstance(made.latest_invoice, stripe.Invoice)
    tiers = [item.price["tiers"] for item in made["items"].data]
    assert [tiers[0], len(tiers[1])] == [None, 2]
    assert isinstance(shop.v1.subscriptions.retrieve(made.id).latest_invoice, str)
    listed = shop.v1.subscriptions.list({"customer": customer, "expand": ["data.customer"]})
    assert isinstance(listed.data[0].customer, stripe.Customer)
    with pytest.raises(stripe.InvalidRequestError):
        shop.v1.subscriptions.retrieve(made.id, {"expand": ["nothing"]})


def test_a_lookup_key_is_of_one_price_and_moves_when_that_is_wanted(shop: Shop) -> None:
    product = shop.v1.products.create({"name": "Pro"}).id
    price: stripe.params.PriceCreateParams = {
        "product": product,
        "currency": "usd",
        "unit_amount": 4_900,
        "recurring": {"interval": "month"},
        "lookup_key": "pro_monthly",
    }
    first = shop.v1.prices.create(price)
    with pytest.raises(stripe.InvalidRequestError):
        shop.v1.prices.create(price)
    second = shop.v1.prices.create({**price, "transfer_lookup_key": True})
    assert [one.id for one in shop.v1.prices.list({"lookup_keys": ["pro_monthly"]}).data] == [second.id]
    assert shop.v1.prices.retrieve(first.id).lookup_key is None


def test_a_list_is_filtered_by_just_what_was_given(shop: Shop) -> None:
    for email in ("a+b@example.com", "a b@example.com", "A+b@example.com"):
        shop.v1.customers.create({"email": email})
    assert [one.email for one in shop.v1.customers.list({"email": "a+b@example.com"}).data] == ["a+b@example.com"]
    clock = shop.v1.test_helpers.test_clocks.create({"frozen_time": START}).id
    times = []
    for number in range(3):
        shop.v1.customers.create({"test_clock": clock})
        shop.advance(clock, START + number + 1)
    # The package's types know no moment alone, which Stripe takes.
    for bounds in ({"gte": START + 1}, {"gt": START, "lt": START + 2}, {"lte": START}, START):
        found = shop.v1.customers.list({"test_clock": clock, "created": bounds})  # type: ignore[arg-type]
        times.append([one.created - START for one in found.data])
    assert times == [[2, 1], [1], [0], [0]]


def test_a_restart_and_even_a_death_goes_on_with_what_was_there(tmp_path: Path) -> None:
    with running_standin(tmp_path / "stripe.sqlite") as standin:
        shop = Shop(standin)
        customer, clock = shop.customer()
        subscription = shop.subscribe(customer, shop.plan())
        standin.admin("POST", "settings", delay_seconds=0.01)
        standin.kill()
        standin.start()
        assert shop.v1.subscriptions.retrieve(subscription).status == "active"
        assert shop.v1.test_helpers.test_clocks.retrieve(clock).frozen_time == START
        assert standin.admin("GET", "settings")["delay_seconds"] == 0.01
    assert (tmp_path / "stripe.sqlite").stat().st_mode & 0o077 == 0


def test_a_stop_ends_it_with_nothing_left_undone(tmp_path: Path) -> None:
    with running_standin(tmp_path / "stripe.sqlite") as standin:
        assert standin.stop() == 0
        with pytest.raises(ConnectionError):
            standin.ask("GET", "/_standin/clock")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("settings", '{"faults": [{"fault": "fire"}]}'),
        ("settings", '{"dealy_seconds": 1}'),
        ("settings", "[]"),
        ("settings", "{"),
        ("advance", "{}"),
        ("advance", '{"seconds": -1}'),
        ("advance", '{"seconds": 1, "to": 2}'),
        ("advance", '{"to": 1}'),
        ("cards", '{"customer": "cus_none"}'),
    ],
)
def test_its_own_addresses_say_what_is_wrong(standin: StandIn, path: str, body: str) -> None:
    status, _, content = standin.ask("POST", f"/_standin/{path}", body)
    assert status == 400
    assert json.loads(content)["error"]


def test_a_call_that_is_no_http_is_answered_as_such(standin: StandIn) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", standin.port, timeout=10)
    connection.putrequest("GET", "/v1/customers", skip_host=True)
    connection.putheader("Content-Length", "none")
    connection.endheaders()
    assert connection.getresponse().status == 400
    connection.close()
