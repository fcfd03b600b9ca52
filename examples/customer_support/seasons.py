"""The same shop and the same requests at another time: later by some days, or with other articles."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from agentmesh.examples.customer_support.expect import Expect, euros
from agentmesh.examples.customer_support.shop import Product, Shop
from agentmesh.examples.customer_support.traffic import Inquiry

VARIANTS = ("Women", "Men")

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_ASKED = ("Is the {} in stock?", "How much is the {}?", "Do you have the {}?")


def shifted(shop: Shop, days: int) -> Shop:
    """Return a shop whose orders are all so many days later."""
    by = timedelta(days=days)

    def moved(row: Any, *names: str) -> Any:
        dates = {name: getattr(row, name) for name in names}
        return replace(row, **{k: v + by for k, v in dates.items() if v is not None})

    return replace(
        shop,
        orders=tuple(moved(o, "placed_on", "shipped_on", "delivered_on") for o in shop.orders),
        returns=tuple(moved(r, "created_on") for r in shop.returns),
        refunds=tuple(moved(r, "created_on") for r in shop.refunds),
    )


def later(inquiry: Inquiry, days: int) -> Inquiry:
    """Return a request whose solution names the dates of a shop that was shifted as well."""

    def moved(words: str) -> str:
        return _DATE.sub(lambda d: f"{date.fromisoformat(d[0]) + timedelta(days=days)}", words)

    says = tuple(tuple(map(moved, group)) for group in inquiry.expect.says)
    return replace(inquiry, expect=replace(inquiry.expect, says=says))


def catalogue(shop: Shop) -> Shop:
    """Return the shop with each article in two variants, the second one dearer."""
    variants: list[Product] = []
    for product in shop.products:
        first = replace(product, name=f"{product.name} {VARIANTS[0]}")
        cents = product.price_cents + 1_000
        second = replace(
            product, id=f"{product.id}-2", name=f"{product.name} {VARIANTS[1]}", price_cents=cents
        )
        variants += [first, second]
    return replace(shop, products=tuple(variants))


def product_questions(old: Shop, new: Shop, count: int, *, at: float) -> list[Inquiry]:
    """Return questions about articles, solved by an answer that prices all of their variants."""
    prices: dict[str, list[int]] = {}
    for product in new.products:
        prices.setdefault(product.id.removesuffix("-2"), []).append(product.price_cents)
    made = []
    for i in range(count):
        product = old.products[(7 * i) % len(old.products)]
        user = old.customers[i % len(old.customers)].id
        says = tuple((euros(cents),) for cents in prices[product.id])
        expect = Expect("product", ("find_product",), says=says)
        text = _ASKED[i % len(_ASKED)].format(product.name)
        made.append(Inquiry(i + 1, f"{user}-{i}", user, at + 60.0 * i, text, expect))
    return made
