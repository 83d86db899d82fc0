"""Which call is answered by which function."""

from collections.abc import Callable

from local.stripe import customers, events, meter_events, meters, prices, products, webhook_endpoints
from local.stripe.call import Call
from local.stripe.store import Object

Answer = Callable[[Call], Object]

ROUTES: list[tuple[str, str, Answer]] = [
    ("POST", "/v1/customers", customers.create),
    ("GET", "/v1/customers", customers.list_),
    ("GET", "/v1/customers/{id}", customers.retrieve),
    ("POST", "/v1/customers/{id}", customers.update),
    ("DELETE", "/v1/customers/{id}", customers.delete),
    ("POST", "/v1/products", products.create),
    ("GET", "/v1/products", products.list_),
    ("GET", "/v1/products/{id}", products.retrieve),
    ("POST", "/v1/products/{id}", products.update),
    ("DELETE", "/v1/products/{id}", products.delete),
    ("POST", "/v1/prices", prices.create),
    ("GET", "/v1/prices", prices.list_),
    ("GET", "/v1/prices/{id}", prices.retrieve),
    ("POST", "/v1/prices/{id}", prices.update),
    ("POST", "/v1/billing/meters", meters.create),
    ("GET", "/v1/billing/meters", meters.list_),
    ("GET", "/v1/billing/meters/{id}", meters.retrieve),
    ("POST", "/v1/billing/meters/{id}", meters.update),
    ("POST", "/v1/billing/meters/{id}/deactivate", meters.deactivate),
    ("POST", "/v1/billing/meters/{id}/reactivate", meters.reactivate),
    ("GET", "/v1/billing/meters/{id}/event_summaries", meters.event_summaries),
    ("POST", "/v1/billing/meter_events", meter_events.create),
    ("POST", "/v1/webhook_endpoints", webhook_endpoints.create),
    ("GET", "/v1/webhook_endpoints", webhook_endpoints.list_),
    ("GET", "/v1/webhook_endpoints/{id}", webhook_endpoints.retrieve),
    ("POST", "/v1/webhook_endpoints/{id}", webhook_endpoints.update),
    ("DELETE", "/v1/webhook_endpoints/{id}", webhook_endpoints.delete),
    ("GET", "/v1/events", events.list_),
    ("GET", "/v1/events/{id}", events.retrieve),
]
