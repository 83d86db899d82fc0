"""One call to the API, as the function that answers it sees it."""

from dataclasses import dataclass

from local.stripe import clocks
from local.stripe.errors import no_such
from local.stripe.forms import Params
from local.stripe.store import Object, Store

NOUNS = {
    "billing.meter": "meter",
    "billing_portal.configuration": "configuration",
    "checkout.session": "checkout session",
    "line_item": "invoice line item",
    "test_helpers.test_clock": "testclock",
}


@dataclass(frozen=True)
class Call:
    """`id` is the one in the address, "" where there is none; `root` is where our own pages are reached."""

    store: Store
    params: Params
    id: str
    root: str
    request_id: str
    idempotency_key: str | None

    @property
    def now(self) -> int:
        return clocks.now(self.store)

    def named(self, kind: str) -> Object:
        """The object that the address names, also a deleted one. Raises RefusedError."""
        return self.existing(kind, self.id)

    def existing(self, kind: str, id: str, param: str = "id") -> Object:
        found = self.store.find(kind, id)
        if found is None:
            raise no_such(NOUNS.get(kind, kind), id, param)
        return found

    def living(self, kind: str, id: str, param: str = "id") -> Object:
        """As existing, but what is deleted is not there any more."""
        found = self.existing(kind, id, param)
        if found.get("deleted"):
            raise no_such(NOUNS.get(kind, kind), id, param)
        return found
