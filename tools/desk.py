"""The hands of a support desk: orders, returns, refunds, tickets, help articles, hand-over.

What a customer may see and do is decided here and not in a prompt: every query is scoped to the
verified customer of the call's context, every limit of the shop's policy is checked before a row
is written, and every write happens once per idempotency key, together with its row in the table
`desk_actions`, which is also the desk's record of who did what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal

from langchain_core.tools import BaseTool, StructuredTool, ToolException
from pydantic import Field
from sqlalchemy import (
    Connection,
    Engine,
    insert,
    or_,
    select,
)

from agentmesh import canonical
from agentmesh.tools import declare
from agentmesh.tools.desk_rows import Limits, Row, Rows, address_of, day, money, new_id, open_engine
from agentmesh.tools.desk_schema import DeskSchema, TableMap

__all__ = ["Desk", "DeskSchema", "Limits", "TableMap"]

Reason = Literal["damaged", "wrong_item", "missing", "late", "lost", "changed_mind", "goodwill"]
Status = Literal["any", "processing", "shipped", "delivered", "cancelled"]
Topic = Literal["order", "payment", "product", "complaint", "account", "other"]

OrderNumber = Annotated[
    str, Field(min_length=1, max_length=40, description="The order's number, as the shop wrote it")
]
AT_FAULT = frozenset({"damaged", "wrong_item", "missing"})
"""Reasons that are the shop's fault: the return window does not bind them."""


def _cents(amount: float) -> int:
    try:
        cents = Decimal(str(amount)) * 100
    except InvalidOperation as error:
        raise ToolException(f"{amount!r} is no amount of money") from error
    if not cents.is_finite() or cents != int(cents) or cents <= 0:
        raise ToolException(f"{amount!r} is no amount of money: give euros and cents, like 12.90")
    return int(cents)


class Desk:
    """A support desk over one database; `tools()` are its hands, ready for an agent.

    `clock` gives the time, in UTC; `schema` says where the rows are.

    Example:
        desk = Desk("sqlite:///shop.db", limits=Limits(refund_cents=10_000))
        agent = Agent("support", tools=desk.tools(), ...)
    """

    def __init__(
        self,
        database: str | Engine,
        *,
        schema: DeskSchema | None = None,
        limits: Limits | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.engine = open_engine(database)
        self.limits = limits or Limits()
        self._rows = Rows(self.engine, schema or DeskSchema(), self.limits, clock)
        self._owns_engine = not isinstance(database, Engine)

    def close(self) -> None:
        """Close the connections of a desk that was opened from a URL."""
        if self._owns_engine:
            self.engine.dispose()

    def tools(self) -> list[BaseTool]:
        """Return the desk's tools, declared: what reads, what writes, what needs approval."""
        reads: list[Callable[..., str]] = [
            self.my_account,
            self.list_orders,
            self.order_status,
            self.find_product,
        ]
        writes: list[Callable[..., str]] = [
            self.change_address,
            self.cancel_order,
            self.return_item,
            self.open_ticket,
        ]
        return [
            *(_tool(read, side_effect="none", idempotent=True) for read in reads),
            _tool(self.search_help, side_effect="none", idempotent=True),
            *(_tool(write, side_effect="external", idempotent=True) for write in writes),
            _tool(self.hand_over, side_effect="external", idempotent=True),
            _tool(
                self.refund,
                side_effect="external",
                idempotent=True,
                approval=self.refund_needs_approval,
            ),
        ]

    # What a customer may look at.

    def my_account(self) -> str:
        """Show the customer's own name, email address and postal address, as the account has them.

        The address of an order can differ: `order_status` shows it.
        """
        with self.engine.connect() as db:
            me = self._rows.me(db)
        return canonical.dumps(
            {"name": me["name"], "email": me["email"], "address": address_of(me)}
        )

    def list_orders(
        self,
        status: Annotated[Status, Field(description="Only orders in this state")] = "any",
        limit: Annotated[int, Field(ge=1, le=20, description="How many, newest first")] = 5,
    ) -> str:
        """List the customer's own orders, newest first: number, state, date, total and articles.

        Use it when the customer gives no order number. Cancelled orders are among them. Orders of
        other customers are never shown. For dates, parcel, single prices, refunds and returns read
        the order with `order_status`.
        """
        orders = self._rows.parts["orders"]
        with self.engine.connect() as db:
            me = self._rows.me(db)
            query = select(*orders.labels).where(orders["customer"] == me["id"])
            if status != "any":
                query = query.where(orders["status"] == self._rows.word(status))
            query = query.order_by(orders["placed_on"].desc(), orders["id"].desc()).limit(limit)
            found = [self._rows.brief(db, dict(row)) for row in db.execute(query).mappings()]
        return canonical.dumps({"orders": found})

    def order_status(self, order: OrderNumber) -> str:
        """Show one order of the customer: state, dates, parcel, lines, address, refunds, returns.

        Read it before you say anything about an order, and before you change, cancel, return or
        refund one. Days are written like 2026-03-31; `as_of` is today, `returnable_until` the last
        day on which an article can be returned without a fault. Amounts are in the currency that
        is named; `total` includes shipping, `refunded` is what was paid back so far. An order that
        belongs to somebody else is answered as one that does not exist.
        """
        with self.engine.connect() as db:
            row = self._rows.order(db, order)
            return canonical.dumps(self._rows.full(db, row))

    def find_product(
        self,
        words: Annotated[
            str, Field(min_length=2, max_length=80, description="Words of the product's name")
        ],
    ) -> str:
        """Find products by words of their name: price, stock and category, at most five.

        Every word must be part of the name. If nothing is found, try fewer words. A stock of 0
        means that it cannot be ordered at the moment.
        """
        products = self._rows.parts["products"]
        query = select(*products.labels).order_by(products["name"]).limit(5)
        for word in words.split()[:5]:
            query = query.where(products["name"].icontains(word, autoescape=True))
        with self.engine.connect() as db:
            rows = list(db.execute(query).mappings())
        found = [
            {
                "product": str(row["id"]),
                "name": row["name"],
                "price": money(row["price_cents"]),
                **{role: row[role] for role in ("category", "stock") if role in row},
            }
            for row in rows
        ]
        return canonical.dumps({"products": found, "currency": self.limits.currency})

    def search_help(
        self,
        question: Annotated[
            str, Field(min_length=2, max_length=200, description="The question, in key words")
        ],
    ) -> str:
        """Search the shop's help articles: shipping, hours, payment, care, warranty, sizes.

        Returns the two articles that fit best. Use a few key words rather than a whole sentence,
        and answer from what the article says alone.
        """
        articles = self._rows.parts["articles"]
        words = {word for word in _words(question) if len(word) > 2}
        matches = [
            column.icontains(word, autoescape=True)
            for word in sorted(words)
            for column in (articles["title"], articles["body"])
        ]
        if not matches:
            return canonical.dumps({"articles": []})
        with self.engine.connect() as db:
            query = select(*articles.labels).where(or_(*matches))
            rows = [dict(row) for row in db.execute(query).mappings()]
        ranked = sorted(rows, key=lambda row: (-_score(row, words), str(row["id"])))
        return canonical.dumps(
            {"articles": [{"title": row["title"], "body": row["body"]} for row in ranked[:2]]}
        )

    # What a customer may have done.

    def change_address(
        self,
        street: Annotated[str, Field(min_length=3, max_length=120, description="With number")],
        postcode: Annotated[str, Field(min_length=3, max_length=12)],
        city: Annotated[str, Field(min_length=2, max_length=80)],
        country: Annotated[
            str, Field(max_length=2, description="Two letters, such as DE; empty: as before")
        ] = "",
        order: Annotated[
            str, Field(max_length=40, description="Only this order; empty: the account")
        ] = "",
    ) -> str:
        """Change where an order goes, if it has not been shipped, or the account's address.

        An order that is under way keeps its address. Never fill in a part of an address that the
        customer has not given: ask for it. The account's address is for future orders; changing it
        does not change orders that have been placed.
        """
        given = {"street": street, "postcode": postcode, "city": city, "country": country.upper()}
        new = {role: canonical.clean(value) for role, value in given.items() if value}

        def effect(db: Connection, me: Row) -> Row:
            if not order:
                self._rows.update(db, self._rows.parts["customers"], me["id"], new)
                return {"changed": "account", "address": {**address_of(me), **new}}
            row = self._rows.order(db, order, lock=True)
            self._only(row, ("processing",), "the address can be changed until it is shipped")
            self._rows.update(db, self._rows.parts["orders"], row["id"], new)
            return {"changed": str(row["id"]), "address": {**address_of(row), **new}}

        return self._rows.act("change_address", {**new, "order": order}, effect)

    def cancel_order(
        self,
        order: OrderNumber,
        reason: Annotated[str, Field(max_length=200, description="In the customer's words")] = "",
    ) -> str:
        """Cancel an order that has not been shipped, and pay back all that was paid for it.

        The whole order is cancelled, not a part of it, and it cannot be undone. Do not call
        `refund` as well.
        """

        def effect(db: Connection, me: Row) -> Row:
            row = self._rows.order(db, order, lock=True)
            self._only(row, ("processing",), "only an order that is not shipped can be cancelled")
            paid = self._rows.paid(db, row) - self._rows.refunded(db, row)
            self._rows.update(
                db, self._rows.parts["orders"], row["id"], {"status": self._rows.word("cancelled")}
            )
            if paid > 0:
                self._rows.add_refund(db, row, paid, "cancelled")
            return {
                "cancelled": str(row["id"]),
                "refunded": money(paid),
                "currency": self.limits.currency,
            }

        return self._rows.act("cancel_order", {"order": order, "reason": reason}, effect)

    def return_item(
        self,
        order: OrderNumber,
        product: Annotated[
            str, Field(min_length=1, max_length=40, description="As in the order's lines")
        ],
        reason: Annotated[Reason, Field(description="Why it comes back")],
        quantity: Annotated[int, Field(ge=1, le=100)] = 1,
    ) -> str:
        """Announce the return of an article and send the customer a label.

        Possible after delivery, within the return window; damaged or wrong articles within the
        warranty. It pays nothing back: that happens when the parcel has been checked. Call it once
        for each article.
        """

        def effect(db: Connection, me: Row) -> Row:
            row = self._rows.order(db, order, lock=True)
            self._only(row, ("delivered",), "an article can be returned once it is delivered")
            self._in_window(row, reason)
            line = self._rows.line(db, row, product)
            left = line["quantity"] - self._rows.returned(db, row, line["product"])
            if quantity > left:
                raise ToolException(
                    f"{left} of {product!r} in order {row['id']!s} can still be returned"
                )
            returns = self._rows.parts["returns"]
            values = {
                "order": row["id"],
                "product": line["product"],
                "quantity": quantity,
                "reason": reason,
                "status": "announced",
                "created_on": self._rows.today(returns["created_on"]),
            }
            added = db.execute(insert(returns.table).values(returns.row(values)))
            return {
                "return": str(new_id(added)),
                "order": str(row["id"]),
                "product": str(line["product"]),
                "quantity": quantity,
                "label": "sent by email",
            }

        arguments = {"order": order, "product": product, "reason": reason, "quantity": quantity}
        return self._rows.act("return_item", arguments, effect)

    def refund(
        self,
        order: OrderNumber,
        amount: Annotated[
            float, Field(gt=0, le=100_000, description="In the shop's currency, such as 24.90")
        ],
        reason: Reason,
    ) -> str:
        """Pay back part or all of what an order cost, to the customer's payment method.

        Never more than was paid. What the customer no longer wants must have come back first.
        A larger sum is put before a person on its own; do not split it.
        """
        cents = _cents(amount)

        def effect(db: Connection, me: Row) -> Row:
            row = self._rows.order(db, order, lock=True)
            if self._rows.state(row) == "processing":
                raise ToolException(f"order {row['id']!s} is not shipped: cancel it instead")
            left = self._rows.paid(db, row) - self._rows.refunded(db, row)
            if cents > left:
                raise ToolException(
                    f"order {row['id']!s} has {money(left)} left to refund, not {money(cents)}"
                )
            if reason == "changed_mind" and not self._rows.came_back(db, row):
                raise ToolException(
                    f"nothing of order {row['id']!s} has come back yet: announce a return first"
                )
            number = self._rows.add_refund(db, row, cents, reason)
            return {
                "refund": number,
                "order": str(row["id"]),
                "amount": money(cents),
                "currency": self.limits.currency,
                "arrives": "within 5 working days",
            }

        return self._rows.act(
            "refund", {"order": order, "amount": amount, "reason": reason}, effect
        )

    def refund_needs_approval(self, arguments: Mapping[str, Any]) -> bool:
        """Say whether a refund is beyond the limit, together with what the order got before.

        Summed by order, so that a large refund cannot be split into small ones. Arguments that
        cannot be understood need approval.
        """
        try:
            cents = _cents(arguments["amount"])
            with self.engine.connect() as db:
                row = self._rows.find_order(db, str(arguments["order"]))
                before = self._rows.refunded(db, row) if row else 0
        except (KeyError, ToolException):
            return True
        return cents + before > self.limits.refund_cents

    def open_ticket(
        self,
        topic: Topic,
        text: Annotated[
            str, Field(min_length=5, max_length=2000, description="What is wanted, in full")
        ],
        order: Annotated[str, Field(max_length=40, description="If it is about one")] = "",
    ) -> str:
        """Write down a matter that the desk settles later; the customer gets its number.

        For a parcel that the carrier must search for, a question to the warehouse, or a wish that
        no tool fulfils. For anything that needs a person's judgement use `hand_over`.
        """

        def effect(db: Connection, me: Row) -> Row:
            return {"ticket": self._rows.add_ticket(db, me, order, topic, text, person=False)}

        return self._rows.act("open_ticket", {"topic": topic, "text": text, "order": order}, effect)

    def hand_over(
        self,
        summary: Annotated[
            str,
            Field(min_length=5, max_length=2000, description="All that the colleague must know"),
        ],
        topic: Topic = "other",
        order: Annotated[str, Field(max_length=40, description="If it is about one")] = "",
    ) -> str:
        """Hand the conversation over to a person, with a summary; the customer gets a number.

        Say in the summary what the customer wants, what has been done, and what is left to decide.
        """

        def effect(db: Connection, me: Row) -> Row:
            number = self._rows.add_ticket(db, me, order, topic, summary, person=True)
            return {"ticket": number, "answer": "by email within one working day"}

        return self._rows.act(
            "hand_over", {"summary": summary, "topic": topic, "order": order}, effect
        )

    # What the policy allows.

    def _only(self, order: Row, states: tuple[str, ...], rule: str) -> None:
        if self._rows.state(order) not in states:
            raise ToolException(f"order {order['id']!s} is {self._rows.state(order)}: {rule}")

    def _in_window(self, order: Row, reason: str) -> None:
        limit = self.limits.warranty_days if reason in AT_FAULT else self.limits.return_days
        delivered = day(order["delivered_on"])
        last = delivered + timedelta(days=limit) if delivered else None
        if last is not None and self._rows.clock().date() > last:
            raise ToolException(f"order {order['id']!s} could be returned until {last}")


def _tool(run: Callable[..., str], **declaration: Any) -> BaseTool:
    made = StructuredTool.from_function(run)
    return declare(made, **declaration)


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in text.casefold()).split()


def _score(article: Row, words: set[str]) -> int:
    """Count the question's words in an article; the title's count three times."""
    title, body = set(_words(article["title"])), set(_words(article["body"]))
    return sum(3 * (word in title) + (word in body) for word in words)
