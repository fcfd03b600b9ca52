from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from sqlalchemy import create_engine, text

from agentmesh.examples.customer_support.shop import TODAY, Shop, generate, write

DUMP = (
    "from agentmesh.examples.customer_support.shop import generate; import hashlib; "
    "print(hashlib.sha256(repr(generate(7)).encode()).hexdigest())"
)


def test_the_same_seed_gives_the_same_shop_in_another_process(shop: Shop) -> None:
    here = hashlib.sha256(repr(shop).encode()).hexdigest()
    for hash_seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", DUMP],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert there.stdout.strip() == here
    assert generate(8) != shop


def test_has_a_few_thousand_rows_that_fit_together(shop: Shop) -> None:
    assert 3_000 < shop.rows < 10_000
    people = {person.id for person in shop.customers}
    numbers = {order.id for order in shop.orders}
    products = {product.id for product in shop.products}
    assert len(numbers) == len(shop.orders)
    assert all(order.customer_id in people for order in shop.orders)
    assert all(line.order_id in numbers and line.product_id in products for line in shop.lines)
    assert {order.id for order in shop.orders} == {line.order_id for line in shop.lines}


def test_an_orders_days_agree_with_its_state(shop: Shop) -> None:
    for order in shop.orders:
        assert order.placed_on.date() <= TODAY
        assert (order.delivered_on is not None) == (order.status == "delivered")
        assert (order.tracking is not None) == (order.status in ("shipped", "delivered"))
        if order.shipped_on:
            assert order.placed_on.date() < order.shipped_on <= TODAY
        if order.delivered_on and order.shipped_on:
            assert order.shipped_on < order.delivered_on <= TODAY
    paid = {
        order.id: sum(
            line.price_cents * line.quantity for line in shop.lines if line.order_id == order.id
        )
        for order in shop.orders
        if order.id in {refund.order_id for refund in shop.refunds}
    }
    assert all(0 < refund.cents <= paid[refund.order_id] for refund in shop.refunds)


def test_writes_every_row_over_whatever_lay_there(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    path.write_text("something else")
    engine = create_engine(write(shop, path))
    with engine.connect() as db:
        counts = {
            name: db.execute(text(f"select count(*) from {name}")).scalar()
            for name in ("customers", "orders", "order_lines", "returns", "refunds", "tickets")
        }
    engine.dispose()
    assert counts == {
        "customers": len(shop.customers),
        "orders": len(shop.orders),
        "order_lines": len(shop.lines),
        "returns": len(shop.returns),
        "refunds": len(shop.refunds),
        "tickets": 0,
    }
