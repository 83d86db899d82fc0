"""What is read of Stripe's events: as much as is needed, in the shape of the version that the package is made for."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from common import ids, json_text
from common.errors import InvalidRequest

# In metadata: the plan of a price, and the account of a customer, a subscription and a checkout.
PLAN = "batchyard_plan"
ACCOUNT = "batchyard_account"

SUBSCRIPTION_TYPES = tuple(
    f"customer.subscription.{what}" for what in ("created", "updated", "paused", "resumed", "deleted")
)
INVOICE_TYPES = tuple(f"invoice.{what}" for what in ("payment_failed", "marked_uncollectible", "voided", "paid"))
CHECKOUT_COMPLETED = "checkout.session.completed"
CUSTOMER_DELETED = "customer.deleted"
# What the webhook endpoint asks Stripe for.
TYPES = (CHECKOUT_COMPLETED, *SUBSCRIPTION_TYPES, *INVOICE_TYPES, CUSTOMER_DELETED)

# Of what is told of one second the later in such a list is taken to be the later.
STATUSES = ("incomplete", "trialing", "active", "past_due", "unpaid", "paused", "incomplete_expired", "canceled")
ENDED_SUBSCRIPTION = frozenset({"canceled", "incomplete_expired"})
ENDED_INVOICE = frozenset({"paid", "void"})


def _storable(text: str) -> str:
    if not json_text.is_storable(text):
        raise ValueError("holds what the database cannot")
    return text


Text = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_storable)]
# Up to the year 9998: a time zone, or a grace, makes no moment of it that there is not.
Seconds = Annotated[int, Field(ge=0, le=253_370_764_799)]
Cents = Annotated[int, Field(ge=-(2**62), le=2**62)]
Metadata = dict[str, Any]
ToldT = TypeVar("ToldT", bound="Told")


class Told(BaseModel):
    """Only what is named is looked at. The values have Stripe's types, and no others are made into them."""

    model_config = ConfigDict(strict=True, frozen=True)


class Price(Told):
    unit_amount: Annotated[int, Field(ge=0, le=2**62)] | None = None
    currency: Text | None = None
    metadata: Metadata | None = None

    @property
    def plan(self) -> str | None:
        """The plan that it is a price of; None for one that is not ours."""
        name = (self.metadata or {}).get(PLAN)
        return name if isinstance(name, str) and json_text.is_storable(name) else None


class Item(Told):
    price: Price
    current_period_start: Seconds | None = None
    current_period_end: Seconds | None = None


class Items(Told):
    data: list[Item] = []


class Subscription(Told):
    id: Text
    customer: Text | None = None
    status: Text
    start_date: Seconds
    items: Items = Items()
    cancel_at: Seconds | None = None
    cancel_at_period_end: bool = False
    ended_at: Seconds | None = None
    metadata: Metadata | None = None


class SubscriptionDetails(Told):
    subscription: Text | None = None
    metadata: Metadata | None = None


class Parent(Told):
    subscription_details: SubscriptionDetails | None = None


class Invoice(Told):
    id: Text
    customer: Text | None = None
    status: Text
    created: Seconds
    amount_due: Cents
    parent: Parent | None = None


class Checkout(Told):
    id: Text
    customer: Text | None = None
    metadata: Metadata | None = None


class Customer(Told):
    id: Text
    metadata: Metadata | None = None


class Data(Told):
    object: dict[str, Any]


class Event(Told):
    """An event of Stripe's: it tells of `data.object` as it was at `created`."""

    id: Text
    type: Text
    created: Seconds
    livemode: bool
    data: Data


@dataclass(frozen=True, slots=True)
class Version:
    """Of what was told of an object the greatest stands. What has ended stays so; within a second, in which Stripe
    tells several things of one object, the rank decides, and in the end anything that is always the same."""

    ended: bool
    told_at: datetime
    rank: int
    told_by: str


def event(content: Mapping[str, Any]) -> Event:
    """Raises InvalidRequest."""
    return _read(Event, content)


def subscription(told: Event) -> Subscription:
    return _read(Subscription, told.data.object)


def invoice(told: Event) -> Invoice:
    return _read(Invoice, told.data.object)


def checkout(told: Event) -> Checkout:
    return _read(Checkout, told.data.object)


def customer(told: Event) -> Customer:
    return _read(Customer, told.data.object)


def _read(kind: type[ToldT], content: Mapping[str, Any]) -> ToldT:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise InvalidRequest(
            f"This is no {kind.__name__.lower()} that is known here: {where}: {problem['msg']}."
        ) from None


def version_of_subscription(told: Event, found: Subscription) -> Version:
    ended = found.status in ENDED_SUBSCRIPTION or told.type == "customer.subscription.deleted"
    by_type = SUBSCRIPTION_TYPES.index(told.type)
    by_status = STATUSES.index(found.status) if found.status in STATUSES else len(STATUSES)
    return Version(ended, moment(told.created), by_type * 100 + by_status, told.id)


def version_of_invoice(told: Event, found: Invoice) -> Version:
    return Version(found.status in ENDED_INVOICE, moment(told.created), INVOICE_TYPES.index(told.type), told.id)


def account_in(metadata: Metadata | None) -> UUID | None:
    """The account that the metadata name, as `of_account` writes it."""
    shown = (metadata or {}).get(ACCOUNT)
    return ids.parse("acct_", shown) if isinstance(shown, str) else None


def of_account(account_id: UUID) -> dict[str, str]:
    """Metadata that name an account."""
    return {ACCOUNT: ids.show("acct_", account_id)}


def moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
