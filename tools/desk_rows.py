"""The rows behind the support desk: found for the verified customer alone, written once per key."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from langchain_core.tools import ToolException
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import ArgumentError, IntegrityError

from agentmesh import canonical
from agentmesh.errors import ConfigError
from agentmesh.tools.caller import context
from agentmesh.tools.desk_schema import ADDRESS, DeskSchema, Part, reflect

Row = Mapping[str, Any]

ACTIONS = Table(
    "desk_actions",
    MetaData(),
    Column("key", String(200), primary_key=True),
    Column("tool", String(80), nullable=False),
    Column("customer", String(80), nullable=False),
    Column("session", String(200), nullable=False),
    Column("arguments", Text, nullable=False),
    Column("result", Text, nullable=False),
    Column("at", String(40), nullable=False),
)
"""One row for each thing that the desk did; the only table that it brings along."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the desk may do: amounts in cents, windows in days."""

    refund_cents: int = 15_000
    return_days: int = 30
    warranty_days: int = 730
    currency: str = "EUR"

    def __post_init__(self) -> None:
        for name in ("refund_cents", "return_days", "warranty_days"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 0:
                raise ConfigError(
                    f"the desk's limit {name} must be a whole number, not {value!r}",
                    hint="amounts are in cents: 150.00 is 15000",
                )


def money(cents: int) -> str:
    """Return an amount as the desk writes it."""
    return f"{Decimal(cents) / 100:.2f}"


def day(value: object) -> date | None:
    """Return a database's date, timestamp or ISO text as a date."""
    if value is None or value == "":
        return None
    if isinstance(value, datetime):
        return value.date()
    return value if isinstance(value, date) else date.fromisoformat(str(value)[:10])


def like(column: Column[Any], value: str) -> object:
    """Return `value` as the column's own type, so that an index on it is used; None if it is none.

    PostgreSQL compares nothing with a value of another type.
    """
    try:
        return column.type.python_type(value)
    except NotImplementedError:
        return value
    except (TypeError, ValueError):
        return None


def open_engine(database: str | Engine) -> Engine:
    """Return an engine for a URL; SQLite waits for other writers."""
    if isinstance(database, Engine):
        return database
    try:
        engine = create_engine(database)
    except (ArgumentError, ModuleNotFoundError) as error:
        raise ConfigError(
            f"not a database URL: {database!r} ({str(error).splitlines()[0]})",
            hint="for example sqlite:///shop.db or postgresql+psycopg://user@host/shop",
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _patient)
    return engine


def _patient(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA busy_timeout=60000")


def address_of(row: Row) -> dict[str, str]:
    """Return a row's postal address."""
    return {role: str(row[role]) for role in ADDRESS}


def new_id(result: Any) -> object:
    """Return the id that the database gave to an inserted row."""
    return result.inserted_primary_key[0]


class Rows:
    """A shop's tables, as the desk reads and writes them."""

    def __init__(
        self,
        engine: Engine,
        schema: DeskSchema,
        limits: Limits,
        clock: Callable[[], datetime],
    ) -> None:
        self.engine = engine
        self.schema = schema
        self.limits = limits
        self.clock = clock
        self.parts = reflect(engine, schema)
        ACTIONS.create(engine, checkfirst=True)

    # Rows, always of the verified customer.

    def me(self, db: Connection) -> Row:
        """Return the verified customer of this call.

        Raises:
            ToolException: there is none, or the shop does not know them.
        """
        user = context().user
        if not user:
            raise ToolException("no verified customer in this conversation")
        customers = self.parts["customers"]
        query = select(*customers.labels).where(
            customers["id"].in_([like(customers["id"], user)])  # in NULL is nobody
        )
        row = db.execute(query).mappings().first()
        if row is None:
            raise ToolException("this conversation's customer has no account in the shop")
        return dict(row)

    def order(self, db: Connection, number: str, *, lock: bool = False) -> Row:
        """Return an order of the customer; another customer's is as unknown as none at all."""
        me = self.me(db)
        row = self.find_order(db, number, lock=lock)
        if row is None or row["customer"] != me["id"]:
            raise ToolException(f"this customer has no order {number!r}")
        return row

    def find_order(self, db: Connection, number: str, *, lock: bool = False) -> Row | None:
        """Return an order, whosever it is."""
        orders = self.parts["orders"]
        given = number.strip().lstrip("#")
        spellings = sorted({given, given.upper(), given.lower()})
        wanted = [like(orders["id"], spelling) for spelling in spellings]
        query = select(*orders.labels).where(orders["id"].in_(wanted))
        row = db.execute(query.with_for_update() if lock else query).mappings().first()
        return None if row is None else dict(row)

    def lines(self, db: Connection, order: Row) -> list[Row]:
        """Return an order's lines with their products' names."""
        lines, products = self.parts["lines"], self.parts["products"]
        query = (
            select(*lines.labels, products["name"].label("name"))
            .join_from(lines.table, products.table, lines["product"] == products["id"])
            .where(lines["order"] == order["id"])
            .order_by(lines["id"])
        )
        return [dict(row) for row in db.execute(query).mappings()]

    def line(self, db: Connection, order: Row, product: str) -> Row:
        """Return the line of a product, given by its number or name."""
        for line in self.lines(db, order):
            if product.strip().casefold() in (
                str(line["product"]).casefold(),
                line["name"].casefold(),
            ):
                return line
        raise ToolException(f"order {order['id']!s} has no article {product!r}")

    def paid(self, db: Connection, order: Row) -> int:
        """Return the cents that were paid for an order, shipping included."""
        goods = sum(line["quantity"] * line["price_cents"] for line in self.lines(db, order))
        return int(goods + (order.get("shipping_cents") or 0))

    def refunded(self, db: Connection, order: Row) -> int:
        """Return the cents that an order has been paid back."""
        refunds = self.parts["refunds"]
        query = select(func.coalesce(func.sum(refunds["cents"]), 0))
        found: Any = db.execute(query.where(refunds["order"] == order["id"])).scalar_one()
        return int(found)

    def returns(self, db: Connection, order: Row) -> list[Row]:
        """Return an order's returns, oldest first."""
        returns = self.parts["returns"]
        query = select(*returns.labels).where(returns["order"] == order["id"])
        return [dict(row) for row in db.execute(query.order_by(returns["id"])).mappings()]

    def returned(self, db: Connection, order: Row, product: object) -> int:
        """Return how many pieces of a product are on their way back."""
        return sum(row["quantity"] for row in self.returns(db, order) if row["product"] == product)

    def came_back(self, db: Connection, order: Row) -> bool:
        """Return whether the warehouse has checked anything of an order."""
        return any(row["status"] == "received" for row in self.returns(db, order))

    # How rows are shown.

    def brief(self, db: Connection, order: Row) -> Row:
        """Return an order as a list shows it."""
        return {
            "order": str(order["id"]),
            "status": self.state(order),
            "placed_on": str(day(order["placed_on"])),
            "total": money(self.paid(db, order)),
            "articles": [line["name"] for line in self.lines(db, order)],
        }

    def full(self, db: Connection, order: Row) -> Row:
        """Return all that is to be said about an order."""
        delivered = day(order["delivered_on"])
        until = delivered + timedelta(days=self.limits.return_days) if delivered else None
        parcel = {role: order[role] for role in ("carrier", "tracking") if order.get(role)}
        days = {
            role: str(day(order[role]))
            for role in ("placed_on", "shipped_on", "delivered_on")
            if order[role]
        }
        return {
            "order": str(order["id"]),
            "status": self.state(order),
            **days,
            **parcel,
            **({"returnable_until": str(until)} if until else {}),
            "as_of": str(self.clock().date()),
            "lines": [
                {
                    "product": str(line["product"]),
                    "name": line["name"],
                    "quantity": line["quantity"],
                    "price": money(line["price_cents"]),
                }
                for line in self.lines(db, order)
            ],
            "shipping": money(order.get("shipping_cents") or 0),
            "total": money(self.paid(db, order)),
            "refunded": money(self.refunded(db, order)),
            "currency": self.limits.currency,
            "returns": [
                {role: str(row[role]) for role in ("product", "quantity", "reason", "status")}
                for row in self.returns(db, order)
            ],
            "address": address_of(order),
        }

    def state(self, order: Row) -> str:
        """Return an order's state in the desk's words."""
        words = {theirs: ours for ours, theirs in self.schema.statuses.items()}
        return words.get(str(order["status"]), str(order["status"]))

    def word(self, status: str) -> str:
        """Return the database's word for a state."""
        return self.schema.statuses.get(status, status)

    # How rows are written: once per key.

    def act(self, tool: str, arguments: Row, effect: Callable[[Connection, Row], Row]) -> str:
        """Run `effect` in one transaction with its action row, or return what it did before."""
        key = context().idempotency_key or uuid.uuid4().hex
        try:
            with self.engine.begin() as db:
                me = self.me(db)
                claim = {
                    "key": key,
                    "tool": tool,
                    "customer": str(me["id"]),
                    "session": context().session,
                    "arguments": canonical.clean(canonical.dumps(arguments)),
                    "result": "",
                    "at": self.clock().isoformat(),
                }
                db.execute(insert(ACTIONS).values(claim))
                result = canonical.dumps(effect(db, me))
                done = update(ACTIONS).where(ACTIONS.c.key == key)
                db.execute(done.values(result=result))
                return result
        except IntegrityError:
            before = self.before(key)
            if before is None:
                raise
            return before

    def before(self, key: str) -> str | None:
        """Return what an action answered, if it was taken."""
        with self.engine.connect() as db:
            query = select(ACTIONS.c.result).where(ACTIONS.c.key == key)
            found: str | None = db.execute(query).scalar()
            return found

    def update(self, db: Connection, part: Part, key: object, values: Row) -> None:
        """Change the row of a key."""
        db.execute(update(part.table).where(part["id"] == key).values(part.row(values)))

    def add_refund(self, db: Connection, order: Row, cents: int, reason: str) -> str:
        """Write a refund and return its number."""
        refunds = self.parts["refunds"]
        values = {
            "order": order["id"],
            "cents": cents,
            "reason": reason,
            "created_on": self.today(refunds["created_on"]),
        }
        return str(new_id(db.execute(insert(refunds.table).values(refunds.row(values)))))

    def add_ticket(
        self, db: Connection, me: Row, order: str, topic: str, text: str, *, person: bool
    ) -> str:
        """Write a ticket and return its number."""
        tickets = self.parts["tickets"]
        values = {
            "customer": me["id"],
            "order": self.order(db, order)["id"] if order else None,
            "topic": topic,
            "text": canonical.clean(text),
            "for_person": person,
            "created_on": self.today(tickets["created_on"]),
        }
        return str(new_id(db.execute(insert(tickets.table).values(tickets.row(values)))))

    def today(self, column: Column[Any]) -> object:
        """Return now in the column's own type: a date, a timestamp or ISO text."""
        now = self.clock()
        kind = column.type.python_type
        if kind is datetime:
            return now
        return now.date() if kind is date else now.date().isoformat()
