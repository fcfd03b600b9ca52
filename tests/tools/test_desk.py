"""The support desk's tools on a schema that somebody else designed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import BaseTool
from sqlalchemy import Engine, create_engine, event, inspect, text

from agentmesh.errors import ConfigError, StoreError
from agentmesh.tools import CallContext, declaration, run_call
from agentmesh.tools.desk import Desk, DeskSchema, Limits, TableMap

SCHEMA = DeskSchema(
    customers=TableMap("people", {"id": "uid", "email": "mail", "postcode": "zip"}),
    orders=TableMap(
        "sales",
        {
            "id": "no",
            "customer": "buyer",
            "status": "state",
            "placed_on": "bought",
            "postcode": "zip",
            "carrier": None,
            "tracking": None,
            "shipping_cents": None,
        },
    ),
    products=TableMap("goods", {"price_cents": "price", "stock": None, "category": None}),
    lines=TableMap(
        "sale_goods", {"order": "sale", "product": "good", "quantity": "n", "price_cents": "price"}
    ),
    returns=TableMap("returns", {"order": "sale", "product": "good"}),
    refunds=TableMap("paid_back", {"order": "sale"}),
    tickets=TableMap("tickets", {"customer": "uid", "order": "sale", "for_person": None}),
    articles=TableMap("faq", {"title": "question", "body": "answer"}),
    statuses={"processing": "NEW", "shipped": "SENT", "delivered": "DONE", "cancelled": "GONE"},
)
TABLES = """
create table people (uid integer primary key, name text, mail text, street text, zip text,
    city text, country text);
create table sales (no integer primary key, buyer integer, state text, bought text,
    shipped_on text, delivered_on text, street text, zip text, city text, country text);
create table goods (id integer primary key, name text, price integer);
create table sale_goods (id integer primary key, sale integer, good integer, n integer,
    price integer);
create table returns (id integer primary key, sale integer, good integer, quantity integer,
    reason text, status text, created_on text);
create table paid_back (id integer primary key, sale integer, cents integer, reason text,
    created_on text);
create table tickets (id integer primary key, uid integer, sale integer, topic text, text text,
    created_on text);
create table faq (id integer primary key, question text, answer text);
insert into people values (1, 'Ada', 'ada@example.com', 'A 1', '11111', 'Aachen', 'DE'),
    (2, 'Bob', 'bob@example.com', 'B 2', '22222', 'Bonn', 'DE');
insert into goods values (7, 'Blue Kettle', 4000), (8, 'Red Kettle', 9000), (9, '100% Wool', 500);
insert into sales values
    (100, 1, 'NEW', '2026-05-01', null, null, 'A 1', '11111', 'Aachen', 'DE'),
    (101, 1, 'SENT', '2026-04-28', '2026-04-29', null, 'A 1', '11111', 'Aachen', 'DE'),
    (102, 1, 'DONE', '2026-04-10', '2026-04-11', '2026-04-14', 'A 1', '11111', 'Aachen', 'DE'),
    (103, 1, 'DONE', '2025-04-10', '2025-04-11', '2025-04-14', 'A 1', '11111', 'Aachen', 'DE'),
    (200, 2, 'NEW', '2026-05-01', null, null, 'B 2', '22222', 'Bonn', 'DE');
insert into sale_goods values (1, 100, 7, 1, 4000), (2, 101, 7, 1, 4000), (3, 102, 7, 2, 4000),
    (4, 102, 8, 1, 9000), (5, 103, 8, 1, 9000), (6, 200, 8, 1, 9000);
insert into faq values (1, 'Opening hours', 'We open at 9.'), (2, 'Returns', 'Within 30 days.');
"""


OWN_KEYS = "returns", "paid_back", "tickets"
"""Tables whose rows the desk adds: PostgreSQL numbers them only where it is told to."""


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    made, tables = create_engine(url), TABLES
    if made.dialect.name == "sqlite":
        event.listen(made, "connect", lambda db, _: db.execute("pragma busy_timeout=20000"))
    else:
        for name in OWN_KEYS:
            plain = f"create table {name} (id integer primary key"
            tables = tables.replace(plain, f"create table {name} (id serial primary key")
    with made.begin() as db:
        for statement in tables.split(";"):
            if statement.strip():
                db.execute(text(statement))
    yield made
    made.dispose()


@pytest.fixture
def desk(engine: Engine) -> Desk:
    now = datetime(2026, 5, 2, 12, tzinfo=UTC)
    return Desk(engine, schema=SCHEMA, limits=Limits(refund_cents=10_000), clock=lambda: now)


def hand(desk: Desk, name: str) -> BaseTool:
    return next(tool for tool in desk.tools() if tool.name == name)


def ask(desk: Desk, name: str, user: str = "1", key: str = "", **arguments: Any) -> str:
    return use(hand(desk, name), user, key, **arguments)


def use(tool: BaseTool, user: str = "1", key: str = "", **arguments: Any) -> str:
    context = CallContext(user=user, session="s1", idempotency_key=key)
    return run_call(tool, "c1", arguments, context).text


def answer(desk: Desk, name: str, user: str = "1", key: str = "", **arguments: Any) -> Any:
    return json.loads(ask(desk, name, user, key, **arguments))


def one(engine: Engine, sql: str) -> Any:
    with engine.connect() as db:
        return db.execute(text(sql)).scalar()


def test_shows_an_order_of_a_foreign_schema_in_the_desks_own_words(desk: Desk) -> None:
    order = answer(desk, "order_status", order="102")
    assert (order["status"], order["total"], order["refunded"]) == ("delivered", "170.00", "0.00")
    assert order["returnable_until"] == "2026-05-14"
    assert [line["name"] for line in order["lines"]] == ["Blue Kettle", "Red Kettle"]
    assert "carrier" not in order
    listed = answer(desk, "list_orders", status="processing")["orders"]
    assert [row["order"] for row in listed] == ["100"]


def test_two_renderings_of_the_same_order_are_the_same_bytes(desk: Desk) -> None:
    assert ask(desk, "order_status", order="102") == ask(desk, "order_status", order=" #102 ")


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("order_status", {}),
        ("cancel_order", {}),
        ("refund", {"amount": 1.0, "reason": "damaged"}),
        ("return_item", {"product": "8", "reason": "damaged"}),
        ("change_address", {"street": "C 3", "postcode": "33333", "city": "Celle"}),
        ("open_ticket", {"topic": "order", "text": "where is it?"}),
        ("hand_over", {"summary": "wants it"}),
    ],
)
def test_another_customers_order_is_as_unknown_as_none(
    desk: Desk, engine: Engine, tool: str, arguments: dict[str, Any]
) -> None:
    foreign = ask(desk, tool, order="200", **arguments)
    missing = ask(desk, tool, order="999", **arguments)
    assert foreign.startswith("Error: this customer has no order")
    assert foreign.replace("200", "999") == missing
    assert one(engine, "select count(*) from desk_actions") == 0
    assert one(engine, "select state || street from sales where no = 200") == "NEWB 2"


@pytest.mark.parametrize("user", ["", "3", "1 or 1=1", "ada@example.com"])
def test_nobody_is_served_who_is_not_a_verified_customer(desk: Desk, user: str) -> None:
    for tool in ("my_account", "list_orders"):
        assert ask(desk, tool, user=user).startswith("Error: ")


def test_an_injected_number_finds_nothing(desk: Desk, engine: Engine) -> None:
    told = ask(desk, "cancel_order", order="0' or '1'='1")
    assert told.startswith("Error: this customer has no order")
    assert one(engine, "select count(*) from sales where state = 'GONE'") == 0


def test_cancels_what_is_not_shipped_and_pays_it_back(desk: Desk, engine: Engine) -> None:
    done = answer(desk, "cancel_order", order="100", reason="too many")
    assert done == {"cancelled": "100", "currency": "EUR", "refunded": "40.00"}
    assert one(engine, "select state from sales where no = 100") == "GONE"
    assert one(engine, "select sum(cents) from paid_back where sale = 100") == 4000
    assert "is shipped" in ask(desk, "cancel_order", order="101")
    assert "is cancelled" in ask(desk, "cancel_order", order="100")
    assert one(engine, "select count(*) from desk_actions") == 1


def test_the_same_key_acts_once_and_answers_the_same(desk: Desk, engine: Engine) -> None:
    first = ask(desk, "refund", key="k1", order="102", amount=20, reason="damaged")
    again = ask(desk, "refund", key="k1", order="102", amount=20, reason="damaged")
    other = ask(desk, "refund", key="k2", order="102", amount=20, reason="damaged")
    assert first == again
    assert json.loads(other)["refund"] != json.loads(first)["refund"]
    assert one(engine, "select sum(cents) from paid_back where sale = 102") == 4000
    row = "select tool || '|' || customer || '|' || session from desk_actions where key = 'k1'"
    assert one(engine, row) == "refund|1|s1"


def test_the_same_key_at_the_same_time_acts_once(desk: Desk, engine: Engine) -> None:
    told: list[str] = []
    refund = hand(desk, "refund")

    def act() -> None:
        told.append(use(refund, key="k", order="102", amount=20, reason="damaged"))

    threads = [threading.Thread(target=act) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 6
    assert len(set(told)) == 1
    assert one(engine, "select count(*) from paid_back") == 1


def test_refunds_at_the_same_time_never_exceed_what_was_paid(desk: Desk, engine: Engine) -> None:
    refund = hand(desk, "refund")

    def act(key: str) -> None:
        use(refund, key=key, order="102", amount=90, reason="damaged")

    threads = [threading.Thread(target=act, args=(f"k{i}",)) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one(engine, "select sum(cents) from paid_back where sale = 102") == 9000


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"order": "102", "amount": 170.01, "reason": "damaged"}, "170.00 left"),
        ({"order": "102", "amount": 0.001, "reason": "damaged"}, "no amount of money"),
        ({"order": "102", "amount": -5, "reason": "damaged"}, "greater than 0"),
        ({"order": "102", "amount": "all", "reason": "damaged"}, "valid number"),
        ({"order": "102", "amount": float("nan"), "reason": "damaged"}, "Error"),
        ({"order": "102", "amount": 5, "reason": "because"}, "Input should be"),
        ({"order": "102", "amount": 5, "reason": "changed_mind"}, "has come back yet"),
        ({"order": "100", "amount": 5, "reason": "damaged"}, "cancel it instead"),
    ],
)
def test_refuses_a_refund_that_the_rules_do_not_give(
    desk: Desk, engine: Engine, arguments: dict[str, Any], why: str
) -> None:
    told = ask(desk, "refund", **arguments)
    assert told.startswith("Error: ")
    assert why in told
    assert one(engine, "select count(*) from paid_back") == 0
    assert one(engine, "select count(*) from desk_actions") == 0


def test_what_came_back_may_be_refunded(desk: Desk, engine: Engine) -> None:
    answer(desk, "return_item", order="102", product="7", reason="changed_mind")
    with engine.begin() as db:
        db.execute(text("update returns set status = 'received'"))
    assert answer(desk, "refund", order="102", amount=40, reason="changed_mind")["refund"] == "1"


def test_a_large_refund_needs_approval_also_in_small_pieces(desk: Desk) -> None:
    stated = {tool.name: declaration(tool) for tool in desk.tools()}["refund"]
    assert not stated.needs_approval({"order": "102", "amount": 100, "reason": "damaged"})
    assert stated.needs_approval({"order": "102", "amount": 100.01, "reason": "damaged"})
    answer(desk, "refund", order="102", amount=60, reason="damaged")
    assert stated.needs_approval({"order": "102", "amount": 40.01, "reason": "damaged"})
    assert not stated.needs_approval({"order": "102", "amount": 40, "reason": "damaged"})
    for odd in ({}, {"order": "102"}, {"order": "102", "amount": "many"}, {"amount": 5}):
        assert stated.needs_approval(odd)


def test_only_what_has_an_effect_is_declared_so(desk: Desk) -> None:
    effects = {tool.name: declaration(tool).side_effect for tool in desk.tools()}
    reads = {"my_account", "list_orders", "order_status", "find_product", "search_help"}
    assert {name for name, effect in effects.items() if effect == "none"} == reads
    assert all(declaration(tool).idempotent for tool in desk.tools())


def test_changes_an_address_until_the_order_is_shipped(desk: Desk, engine: Engine) -> None:
    new = {"street": "Neue Gasse 5", "postcode": "50667", "city": "Köln"}
    done = answer(desk, "change_address", order="100", **new)
    assert done["address"] == {**new, "country": "DE"}
    assert "shipped" in ask(desk, "change_address", order="101", **new)
    assert one(engine, "select street from people where uid = 1") == "A 1"
    answer(desk, "change_address", country="at", **new)
    assert one(engine, "select street || country from people where uid = 1") == "Neue Gasse 5AT"
    assert one(engine, "select street from people where uid = 2") == "B 2"


def test_returns_within_the_window_and_no_more_than_was_bought(desk: Desk, engine: Engine) -> None:
    asked = {"order": "102", "reason": "changed_mind"}
    assert answer(desk, "return_item", product="blue kettle", quantity=2, **asked)["return"] == "1"
    assert "0 of" in ask(desk, "return_item", product="7", **asked)
    assert "no article" in ask(desk, "return_item", product="9", **asked)
    late = ask(desk, "return_item", order="103", product="8", reason="changed_mind")
    assert "until 2025-05-14" in late
    assert answer(desk, "return_item", order="103", product="8", reason="damaged")["return"] == "2"
    assert "once it is delivered" in ask(
        desk, "return_item", order="101", product="7", reason="damaged"
    )
    assert one(engine, "select count(*) from returns") == 2


def test_writes_tickets_whatever_the_text(desk: Desk, engine: Engine) -> None:
    odd = "'); drop table tickets; -- \x00 äöü"
    assert answer(desk, "open_ticket", topic="other", text=odd)["ticket"] == "1"
    told = answer(desk, "hand_over", topic="complaint", summary="He is angry", order="102")
    assert told["ticket"] == "2"
    assert one(engine, "select sale from tickets where id = 2") == 102


def test_finds_articles_and_products_by_their_words(desk: Desk) -> None:
    assert answer(desk, "search_help", question="opening hours?")["articles"][0]["body"] == (
        "We open at 9."
    )
    assert answer(desk, "search_help", question="?!")["articles"] == []
    names = [row["name"] for row in answer(desk, "find_product", words="kettle")["products"]]
    assert names == ["Blue Kettle", "Red Kettle"]
    assert answer(desk, "find_product", words="100%")["products"][0]["price"] == "5.00"
    assert answer(desk, "find_product", words="%%")["products"] == []


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (DeskSchema(), "'customers', which does not exist"),
        (DeskSchema(customers=TableMap("people")), "no column 'id'"),
        (DeskSchema(customers=TableMap("people", {"id": None})), "no column None"),
    ],
)
def test_a_mapping_that_does_not_fit_is_named_at_once(
    engine: Engine, schema: DeskSchema, why: str
) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        Desk(engine, schema=schema)
    assert caught.value.hint
    assert not inspect(engine).has_table("desk_actions")


def test_a_mapping_cannot_speak_of_what_the_desk_does_not_know() -> None:
    with pytest.raises(ConfigError, match="no role 'colour'"):
        DeskSchema(orders=TableMap("orders", {"colour": "color"}))
    with pytest.raises(ConfigError, match="unknown order status 'lost'"):
        DeskSchema(statuses={"lost": "L"})
    with pytest.raises(ConfigError, match="refund_cents"):
        Limits(refund_cents=-1)


def test_a_database_that_cannot_be_opened_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a database URL"):
        Desk("shop.db")
    with pytest.raises(StoreError, match="cannot be read"):
        Desk(f"sqlite:///{tmp_path / 'no' / 'such.db'}")
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"this is no database, this is text" * 100)
    with pytest.raises(StoreError, match="cannot be read"):
        Desk(f"sqlite:///{broken}")
