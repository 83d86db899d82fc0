"""/v1/billing: the account's plan and subscription, and the pages of Stripe's where it pays."""

from typing import Annotated

from flask import Blueprint, Response, jsonify
from pydantic import Field

from common import billing
from common.together import apart
from web import billing_render, billing_schemas, forms
from web.acting import in_own_account
from web.auth import caller, requires
from web.documented import documented

blueprint = Blueprint("billing", __name__, url_prefix="/billing")


class ChoosePlan(forms.Form):
    """A plan to pay for, of those that GET /v1/billing lists."""

    plan: Annotated[str, Field(max_length=31)]


@blueprint.get("")
@requires("billing")
@documented("Get the plan and the subscription", {200: billing_schemas.Billing})
def get() -> Response:
    """How the account stands, and the plans that there are to buy."""
    return _shown()


# Stripe is asked, and what comes of it is kept in short steps: no transaction of the request is open meanwhile.
@blueprint.post("/checkout")
@requires("billing")
@apart()
@documented(
    "Begin a subscription", {201: billing_schemas.BillingPage}, json=(ChoosePlan,), refuses=(404, 409)
)  # fmt: skip
def checkout() -> tuple[Response, int]:
    """Answers with a page of Stripe's where the plan is paid for. The account has the plan once that is done. A page
    that was not used stays the same; one for another plan is closed."""
    form = forms.parse(ChoosePlan, forms.json_object())
    return jsonify(billing_render.page(billing.checkout(in_own_account(), caller().account_id, form.plan))), 201


@blueprint.post("/plan")
@requires("billing")
@apart()
@documented(
    "Change the plan of the subscription", {200: billing_schemas.Billing}, json=(ChoosePlan,), refuses=(404, 409)
)  # fmt: skip
def change_plan() -> Response:
    """The difference for the rest of the period is billed or credited now. The answer may still have the plan before:
    the new one comes when Stripe has told of it, which takes seconds."""
    form = forms.parse(ChoosePlan, forms.json_object())
    billing.change_plan(in_own_account(), caller().account_id, form.plan)
    return _shown()


@blueprint.post("/portal")
@requires("billing")
@apart()
@documented("Open the portal", {201: billing_schemas.BillingPage}, refuses=(404, 409))
def portal() -> tuple[Response, int]:
    """Answers with a page of Stripe's for invoices, the means of payment, and the end of the subscription."""
    return jsonify(billing_render.page(billing.portal(in_own_account(), caller().account_id))), 201


def _shown() -> Response:
    return jsonify(billing_render.billing(billing.status(caller().account_id)))
