"""A stand-in for Stripe, on 127.0.0.1 alone: python -m local.stripe --port N [--data FILE] [--webhook-url URL]

The calls that Batchyard makes, with Stripe's form encoding, object shapes, errors, ids, lists, expansion, idempotency
keys and signed events, so that the stripe package works against it by its base address alone. Any key sk_test_... is
taken. A parameter that nothing here reads is refused as unknown, as Stripe refuses those that it does not know.
With --data all is kept in one SQLite file, and a restart goes on with it. --webhook-url is an endpoint that is told of
every event, with the secret in the variable STRIPE_WEBHOOK_SECRET; others are made by the API.

What is as at Stripe and easily forgotten:
- A meter event whose identifier was counted in the last 24 hours is refused (400, `An event already exists with
  identifier ...`, Stripe-Should-Retry: false); a day later it is counted again.
- An Idempotency-Key has one answer for 24 hours, also when that was a 500 that came after the call had begun.
- The portal's "cancel at period end" of a subscription of the flexible billing mode, which is what new ones are, sets
  `cancel_at` and leaves `cancel_at_period_end` false; by the API it sets both.
- A renewal's invoice is a draft for an hour, in which meter events of the period that is over still count.
- Declined renewals are tried again after 3, 5 and 7 days; then the subscription is canceled. A subscription that ends
  may still get an invoice for its last usage, and that may be paid after the end.
- Events come at least once and in any order, those of one second have the same `created`.

Its pages, Checkout and the customer portal, are in local/stripe/pages.py with the words that their buttons have.

What it leaves out: trials, coupons, taxes, one-time prices in subscriptions, several intervals in one subscription,
schedules, pauses, pending updates, sources and payment methods (a customer has one card, which pays or is declined).
A metered price is billed for a whole period as it is at its end, and Stripe's portal would not switch a plan that has
one; this one does.

Addresses of its own, without a key, in JSON:
  GET  /_standin/settings      what goes wrong; PUT replaces it (what is not named goes back to nothing), POST changes
                               what is named: {"faults": [{"fault": "error", "share": 0.2,
                               "path": "/v1/billing/meter_events"}], "delay_seconds": 0, "summary_delay_seconds": 0,
                               "tell_times": 1, "tell_within_seconds": 0}. With the last two events come more than
                               once and out of order.
                               Faults: error (500, nothing was done, nothing is kept for the Idempotency-Key),
                               error_after (500 after it was done; the key has this answer from then on), drop
                               (connection closed, nothing was done), drop_after (closed after it was done), rate_limit
                               (429). The path is how those begin that it strikes, the share how many of them.
  GET  /_standin/counts        calls by route, by status and by fault since the process began
  GET  /_standin/meter_events  (?customer=ID) `identifiers`: with which values each was sent, how often, how often it
                               was counted, and what the answers were; `totals`: what was counted for each customer
  GET  /_standin/deliveries    each event's state at each endpoint: waiting, delivered or given_up
  POST /_standin/cards         {"customer": ID, "fails": true}: its card is declined from now on
  GET  /_standin/clock         {"now": ...}: the time for all that have no test clock
  POST /_standin/advance       {"seconds": N} or {"to": TIME}: moves it, and does all that is due by then
"""
