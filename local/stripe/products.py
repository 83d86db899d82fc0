"""/v1/products."""

from local.stripe import events, lists
from local.stripe.call import Call
from local.stripe.errors import RefusedError, invalid
from local.stripe.ids import new_id
from local.stripe.store import Object

URL = "/v1/products"
TEXTS = ("description", "statement_descriptor", "unit_label", "url", "tax_code")


def create(call: Call) -> Object:
    given = call.params.text("id")
    if given is not None and call.store.any(given) is not None:
        raise RefusedError(
            400, "invalid_request_error", "Product already exists.", code="resource_already_exists", param="id"
        )
    product: Object = {
        "id": given or new_id("prod"),
        "object": "product",
        "active": True,
        "created": call.now,
        "default_price": None,
        "description": None,
        "images": [],
        "livemode": False,
        "marketing_features": [],
        "metadata": {},
        "name": call.params.need("name"),
        "package_dimensions": None,
        "shippable": None,
        "statement_descriptor": None,
        "tax_code": None,
        "type": call.params.choice("type", ("good", "service"), "service"),
        "unit_label": None,
        "updated": call.now,
        "url": None,
    }
    _read(call, product)
    events.tell(call, "product.created", call.store.put(product))
    return product


def retrieve(call: Call) -> Object:
    return call.living("product", call.id)


def update(call: Call) -> Object:
    product = call.living("product", call.id)
    before = {**product}
    if call.params.has("name"):
        product["name"] = call.params.need("name")
    if call.params.has("default_price"):
        product["default_price"] = call.living("price", call.params.need("default_price"), "default_price")["id"]
    _read(call, product)
    product["updated"] = call.now
    call.store.put(product)
    events.tell_of_change(call, "product.updated", product, before)
    return product


def delete(call: Call) -> Object:
    product = call.living("product", call.id)
    if any(price["product"] == product["id"] for price in call.store.all("price")):
        raise invalid("This product cannot be deleted because it has one or more user-created prices.")
    product["deleted"] = True
    call.store.put(product)
    events.tell(call, "product.deleted", {name: value for name, value in product.items() if name != "deleted"})
    return {"id": product["id"], "object": "product", "deleted": True}


def list_(call: Call) -> Object:
    params = call.params
    active, ids, url = params.boolean("active"), params.texts("ids"), params.text("url")
    params.pass_over("shippable", "type")
    found = [
        product
        for product in lists.created_as_asked(params, call.store.all("product"))
        if (active is None or product["active"] == active)
        and (not ids or product["id"] in ids)
        and (url is None or product["url"] == url)
    ]
    return lists.page(call, URL, found)


def _read(call: Call, product: Object) -> None:
    params = call.params
    active = params.boolean("active")
    if active is not None:
        product["active"] = active
    for name in TEXTS:
        if params.has(name):
            product[name] = params.text(name)
    product["metadata"] = params.metadata(product["metadata"])
    params.pass_over("images", "marketing_features", "package_dimensions", "shippable", "tax_details")
