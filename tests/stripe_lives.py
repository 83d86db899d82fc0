"""What Stripe tells of customers' subscriptions as they go: made by chance, in the shapes of its events, and signed."""

import hashlib
import hmac
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from common import ids

Json = dict[str, Any]
DAY = 86_400
MONTH = 30 * DAY
AMOUNTS = {"pro": 2_900, "team": 29_900}
SECRET = "whsec_of-the-tests"


def signature(body: bytes, secret: str = SECRET, at: int | None = None) -> str:
    """The header that Stripe sends with this body."""
    moment = str(int(time.time()) if at is None else at)
    signed = hmac.new(secret.encode(), moment.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={signed}"


def body(event: Json) -> bytes:
    return json.dumps(event, indent=2).encode()


def event(number: str, kind: str, created: int, shown: Json, livemode: bool = False) -> Json:
    return {
        "id": f"evt_{number}",
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": created,
        "data": {"object": shown},
        "livemode": livemode,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
    }


def subscription(
    name: str, customer: str, status: str, plan: str | None, start: int, period: int, **other: Any
) -> Json:
    """`period` is when its current period began."""
    metadata = {"batchyard_plan": plan} if plan is not None else {}
    licensed = {"unit_amount": AMOUNTS.get(plan or "", 500), "currency": "usd", "metadata": metadata}
    metered = {"unit_amount": None, "currency": "usd", "metadata": metadata}
    times = {"current_period_start": period, "current_period_end": period + MONTH}
    items = [{"id": f"si_{name}_{kind['unit_amount']}", "price": kind, **times} for kind in (licensed, metered)]
    return {
        "id": name,
        "object": "subscription",
        "customer": customer,
        "status": status,
        "start_date": start,
        "items": {"object": "list", "data": items, "has_more": False},
        "cancel_at": None,
        "cancel_at_period_end": False,
        "ended_at": None,
        "metadata": {},
    } | other


def invoice(name: str, customer: str, of: str, status: str, created: int, metadata: Json | None = None) -> Json:
    details = {"subscription": of, "metadata": metadata}
    return {
        "id": name,
        "object": "invoice",
        "customer": customer,
        "status": status,
        "created": created,
        "amount_due": 2_900,
        "parent": {"type": "subscription_details", "subscription_details": details, "quote_details": None},
    }


@dataclass
class Life:
    """A customer of one account, from its first checkout on. Every event has a number, and many have the second of the
    one before."""

    account_id: UUID
    customer: str
    chance: random.Random
    now: int
    told: list[Json] = field(default_factory=list)

    def run(self, until: int) -> None:
        """Tells of subscriptions, one after the other, until that moment or the end of the customer."""
        number = 0
        while self.now < until:
            number += 1
            self._subscribe(f"sub_{self.customer}_{number}", until)
            self.now += self.chance.randrange(1, 20) * DAY

    def delete(self) -> None:
        self._tell("customer.deleted", {"id": self.customer, "object": "customer", "metadata": self._named()})

    def _named(self) -> Json:
        return {"batchyard_account": ids.show("acct_", self.account_id)}

    def _tell(self, kind: str, shown: Json) -> None:
        # Ids of Stripe's say nothing of the order.
        number = f"{self.chance.getrandbits(64):016x}"
        self.told.append(event(number, kind, self.now, json.loads(json.dumps(shown))))
        self.now += self.chance.choice((0, 0, 1, 40))

    def _subscribe(self, name: str, until: int) -> None:
        chance, start = self.chance, self.now
        plan = chance.choice(("pro", "team"))
        shown = subscription(name, self.customer, "incomplete", plan, start, start, metadata=self._named())

        def tell(what: str, **changes: Any) -> None:
            shown.update(changes)
            self._tell(f"customer.subscription.{what}", shown)

        tell("created")
        if chance.random() < 0.1:
            tell("updated", status="incomplete_expired", ended_at=self.now)
            return
        tell("updated", status="active")
        self._bill(name, start, paid=True)
        checkout = {"id": f"cs_{name}", "object": "checkout.session", "customer": self.customer}
        self._tell("checkout.session.completed", checkout | {"metadata": self._named()})
        while self.now < until:
            if chance.random() < 0.2:
                plan = chance.choice(("pro", "team"))
                tell("updated", items=subscription(name, self.customer, "", plan, start, self._period(shown))["items"])
            if chance.random() < 0.2:
                tell("updated", cancel_at_period_end=True)
                if chance.random() < 0.5:
                    tell("updated", cancel_at_period_end=False)
            if chance.random() < 0.1:
                self._tell("customer.updated", {"id": self.customer, "object": "customer", "metadata": {}})
            end = self._period(shown) + MONTH
            if end > until:
                return
            self.now = max(self.now, end)
            if shown["cancel_at_period_end"]:
                tell("deleted", status="canceled", ended_at=self.now)
                return
            tell("updated", items=subscription(name, self.customer, "", plan, start, end)["items"])
            if not self._renew(name, tell):
                return

    def _renew(self, name: str, tell: Any) -> bool:
        """Whether the subscription goes on."""
        created = self.now
        self.now += 3_600
        if self.chance.random() < 0.7:
            self._bill(name, created, paid=True)
            return True
        for attempt in range(self.chance.randrange(1, 4)):
            self._bill(name, created, paid=False)
            if attempt == 0:
                tell("updated", status="past_due")
            self.now += 3 * DAY
        fate = self.chance.random()
        if fate < 0.5:
            self._bill(name, created, paid=True)
            tell("updated", status="active")
            return True
        if fate < 0.8:
            tell("deleted", status="canceled", ended_at=self.now)
            return False
        self._tell("invoice.voided", invoice(f"in_{name}_{created}", self.customer, name, "void", created))
        tell("updated", status="unpaid")
        return True

    def _bill(self, name: str, created: int, *, paid: bool) -> None:
        metadata = self._named() if self.chance.random() < 0.5 else None
        status = "paid" if paid else "open"
        shown = invoice(f"in_{name}_{created}", self.customer, name, status, created, metadata)
        self._tell("invoice.paid" if paid else "invoice.payment_failed", shown)

    @staticmethod
    def _period(shown: Json) -> int:
        return int(shown["items"]["data"][0]["current_period_start"])


def lives(accounts: list[tuple[UUID, str]], seed: int, until: int) -> Iterator[Json]:
    """All that is told of accounts, each with the customer that it has. Some customers are deleted, and the account
    then has another."""
    chance = random.Random(seed)
    for account_id, customer in accounts:
        beginning = until - chance.randrange(2, 8) * MONTH - chance.randrange(MONTH)
        change = beginning + chance.randrange(1, 5) * MONTH if chance.random() < 0.2 else None
        life = Life(account_id, customer, random.Random(chance.random()), beginning)
        life.run(until if change is None else min(change, until))
        yield from life.told
        if change is not None and life.now < until:
            life.told.clear()
            life.delete()
            following = Life(account_id, f"{customer}_b", random.Random(chance.random()), life.now)
            following.run(until)
            yield from (*life.told, *following.told)
