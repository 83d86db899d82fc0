"""The pages that people see: Checkout (the `url` of a checkout session) and the customer portal (that of its session).

Plain forms, without JavaScript, for people and for browsers that a test drives. Their words are a contract:
- Checkout. Heading "Subscribe to {product}". Radio group "Card": "Card that pays" (chosen), "Card that pays now and is
  declined later". "Email" where the session has neither a customer nor an address. Buttons "Pay" (goes to the
  success_url) and "Decline" (stays, with the alert "Your card was declined."). Link "Cancel and go back" (the
  cancel_url).
- Portal. Heading "Your plan", and one for each plan with its product's name. Buttons "Cancel plan", or "Resume plan"
  where it ends; select "New plan" with the button "Switch plan" where the configuration has products; "Use a card that
  is declined" or "Use a card that pays"; "Pay invoice" beside an open one. Link "Return to Batchyard" (the return_url).
  What was done is said in a status: "Your plan was cancelled.", "Your plan goes on.", "Your plan was switched.", "Your
  card was changed.", "The invoice was paid."; what was not in an alert: "Your card was declined.".
"""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from local.stripe import charges, checkout, customers, portal, subscription_items, subscriptions, words
from local.stripe.call import Call
from local.stripe.deliveries import Sender
from local.stripe.errors import RefusedError, invalid
from local.stripe.forms import Params, parse
from local.stripe.store import Object, Store

TEMPLATES = Path(__file__).with_name("templates")
SHOWN_INVOICES = 12


class Pages:
    def __init__(self, store: Store, sender: Sender, root: str) -> None:
        self._store = store
        self._sender = sender
        self._root = root
        self._templates = Environment(
            loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/style.css", self._style)
        app.router.add_get(f"{checkout.PAGE}{{id}}", self._checkout)
        app.router.add_post(f"{checkout.PAGE}{{id}}", self._act_at_checkout)
        app.router.add_get(f"{portal.PAGE}{{secret}}", self._portal)
        app.router.add_post(f"{portal.PAGE}{{secret}}", self._act_in_portal)

    async def _style(self, request: web.Request) -> web.Response:
        return web.Response(text=(TEMPLATES / "style.css").read_text(), content_type="text/css")

    # Checkout.

    async def _checkout(self, request: web.Request) -> web.Response:
        session = self._store.find(checkout.KIND, request.match_info["id"])
        return self._checkout_page(session)

    async def _act_at_checkout(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        form = await _form(request)

        def act(call: Call) -> None:
            session = call.existing(checkout.KIND, id)
            if session["status"] != "open":
                raise invalid("This checkout is over.")
            match form.get("action"):
                case "pay":
                    session["customer_email"] = session["customer_email"] or form.get("email")
                    checkout.pay(call, session, fails_later=form.get("card") == "fails_later")
                case "decline":
                    checkout.decline()
                case _:
                    raise invalid("Press one of the buttons.")

        refused = self._do(act)
        session = self._store.find(checkout.KIND, id)
        if refused is None and session is not None:
            raise web.HTTPSeeOther(checkout.address_after(session))
        return self._checkout_page(session, refused)

    def _checkout_page(self, session: Object | None, refused: RefusedError | None = None) -> web.Response:
        if session is None:
            return self._over("There is no such checkout", "Its address may be cut off.", None, 404)
        back = session["cancel_url"]
        if session["status"] != "open":
            return self._over("This checkout is over", f"It is {session['status']}.", back, 410)
        lines = [
            {"name": _name(line), "price": words.price(line["price"], line["quantity"])}
            for line in session["line_items"]["data"]
        ]
        return self._page(
            "checkout.html",
            402 if refused else 200,
            (session["success_url"], back),
            product=session["line_items"]["data"][0]["description"],
            lines=lines,
            total=words.money(session["amount_total"], session["currency"]),
            asks_email=session["customer"] is None and session["customer_email"] is None,
            cancel_url=back,
            error=None if refused is None else str(refused),
        )

    # The portal.

    async def _portal(self, request: web.Request) -> web.Response:
        note = NOTES.get(request.query.get("done", ""))
        return self._portal_page(request.match_info["secret"], note, None)

    async def _act_in_portal(self, request: web.Request) -> web.Response:
        secret = request.match_info["secret"]
        form = await _form(request)

        def act(call: Call) -> None:
            session = portal.by_secret(call.store, secret)
            if session is None:
                raise invalid("There is no such portal.")
            _act(call, session, form)

        refused = self._do(act)
        if refused is None:
            # Seen again by GET, so that reloading does nothing twice.
            raise web.HTTPSeeOther(f"{portal.PAGE}{secret}?done={form.get('action', '')}")
        return self._portal_page(secret, None, refused)

    def _portal_page(self, secret: str, note: str | None, refused: RefusedError | None) -> web.Response:
        session = portal.by_secret(self._store, secret)
        customer = None if session is None else self._store.find("customer", session["customer"])
        if session is None or customer is None or customer.get("deleted"):
            return self._over("There is no such portal", "Its address may be cut off.", None, 404)
        call = self._call()
        return self._page(
            "portal.html",
            402 if refused else 200,
            (session["return_url"],),
            plans=[
                _plan(call, session, one)
                for one in self._store.all("subscription", customer["id"])
                if one["status"] not in subscriptions.ENDED
            ],
            card_fails=customer[customers.CARD_FAILS],
            invoices=[_invoice(one) for one in self._store.all("invoice", customer["id"])[:SHOWN_INVOICES]],
            return_url=session["return_url"],
            note=note,
            error=None if refused is None else str(refused),
        )

    # What both share.

    def _call(self) -> Call:
        return Call(self._store, Params({}), "", self._root, "", None)

    def _do(self, act: Callable[[Call], None]) -> RefusedError | None:
        """In one transaction; what was refused, when it was."""
        kept: RefusedError | None = None
        try:
            with self._store.transaction():
                try:
                    act(self._call())
                except RefusedError as refused:
                    if not refused.keeps:
                        raise
                    kept = refused
        except RefusedError as refused:
            kept = refused
        self._sender.wake()
        return kept

    def _over(self, heading: str, text: str, back: str | None, status: int) -> web.Response:
        return self._page("over.html", status, (), heading=heading, text=text, back=back)

    def _page(self, template: str, status: int, goes_to: tuple[str | None, ...], **values: object) -> web.Response:
        """`goes_to` are the addresses that its forms lead to at the end."""
        text = self._templates.get_template(template).render({"error": None, "note": None, **values})
        targets = " ".join(["'self'", *sorted({_origin(url) for url in goes_to if url})])
        headers = {
            "Cache-Control": "no-store",
            "Content-Security-Policy": f"default-src 'none'; style-src 'self'; img-src data:; form-action {targets}; "
            "base-uri 'none'; frame-ancestors 'none'",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        return web.Response(text=text, status=status, content_type="text/html", headers=headers)


NOTES = {
    "cancel": "Your plan was cancelled.",
    "resume": "Your plan goes on.",
    "switch": "Your plan was switched.",
    "card_pays": "Your card was changed.",
    "card_fails": "Your card was changed.",
    "pay": "The invoice was paid.",
}


def _act(call: Call, session: Object, form: dict[str, str]) -> None:
    """Raises RefusedError for what cannot be done, with words for people."""
    action = form.get("action", "")
    if action in ("card_pays", "card_fails"):
        portal.set_card(call, session, fails=action == "card_fails")
        return
    if action == "pay":
        portal.pay(call, session, form.get("invoice", ""))
        return
    subscription = portal.subscription_of_session(call, session, form.get("subscription", ""))
    match action:
        case "cancel":
            portal.cancel(call, session, subscription)
        case "resume":
            portal.resume(call, subscription)
        case "switch":
            portal.switch(call, session, subscription, form.get("price", ""))
        case _:
            raise invalid("Press one of the buttons.")


def _plan(call: Call, session: Object, subscription: Object) -> dict[str, object]:
    items = subscription["items"]["data"]
    licensed = [item for item in items if not subscription_items.is_metered(item)] or items
    ends = subscription["cancel_at"]
    _, end = subscriptions.period(subscription)
    return {
        "id": subscription["id"],
        "name": charges.product_name(call.store, licensed[0]["price"]),
        "price": words.price(licensed[0]["price"], licensed[0]["quantity"]),
        "status": subscription["status"].replace("_", " "),
        "ends": ends is not None,
        "until": words.date(end if ends is None else ends),
        "cancels": portal.cancels(call, session),
        "choices": [
            {"id": one["id"], "name": f"{charges.product_name(call.store, one)}, {words.price(one, None)}"}
            for one in portal.choices(call, session, subscription)
        ],
    }


def _name(line: Object) -> str:
    metered = line["price"]["recurring"]["usage_type"] == "metered"
    return f"{line['description']}: usage" if metered else str(line["description"])


def _invoice(invoice: Object) -> dict[str, object]:
    return {
        "id": invoice["id"],
        "number": invoice["number"] or "draft",
        "date": words.date(invoice["created"]),
        "amount": words.money(invoice["amount_due"], invoice["currency"]),
        "status": invoice["status"],
    }


async def _form(request: web.Request) -> dict[str, str]:
    """Its fields that are texts; what is no form, or was never sent whole, has none."""
    try:
        parsed = parse(await request.text())
    except (UnicodeDecodeError, LookupError, RefusedError, ConnectionError):
        return {}
    return {name: value for name, value in parsed.items() if isinstance(value, str)}


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
