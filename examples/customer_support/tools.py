"""The desk's hands: which tools, over which tables, with which limits, and its own checks."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

from agentmesh.examples.customer_support.expect import REFUND_LIMIT_CENTS
from agentmesh.examples.customer_support.wishes import orders_in
from agentmesh.routing.drafts import Check, CheckContext, Draft
from agentmesh.tools.desk import Desk, DeskSchema, Limits, TableMap

SCHEMA = DeskSchema(
    orders=TableMap("orders", {"customer": "customer_id"}),
    lines=TableMap("order_lines", {"order": "order_id", "product": "product_id"}),
    returns=TableMap("returns", {"order": "order_id", "product": "product_id"}),
    refunds=TableMap("refunds", {"order": "order_id"}),
    tickets=TableMap("tickets", {"customer": "customer_id", "order": "order_id"}),
)
"""Where the shop's tables differ from the desk's own names."""

_CLAIMS = (
    (re.compile(r"\b(?:i have|i've|we have) refunded|has been refunded", re.IGNORECASE), '"refund'),
    (re.compile(r"\b(?:i have|i've|we have) cancelled", re.IGNORECASE), '"cancelled":'),
    (re.compile(r"(?:handed this over|under ticket \d)", re.IGNORECASE), '"ticket":'),
)


def desk(url: str, *, clock: Callable[[], datetime] | None = None) -> Desk:
    """Return the support desk of the shop's database."""
    return Desk(
        url,
        schema=SCHEMA,
        limits=Limits(refund_cents=REFUND_LIMIT_CENTS),
        clock=clock or (lambda: datetime.now(UTC)),
    )


def known_order(draft: Draft, context: CheckContext) -> str | None:
    """Refuse a call about an order that nobody has mentioned."""
    for call in draft.calls:
        for number in orders_in(call.arguments):
            if number not in orders_in(context.seen):
                return f"{call.name}: the order {number!r} is made up"
    return None


def backed_claim(draft: Draft, context: CheckContext) -> str | None:
    """Refuse an answer that claims an action of which no tool has told."""
    for words, proof in _CLAIMS:
        if words.search(draft.text) and proof not in context.seen.replace('\\"', '"'):
            return "claims an action that no tool has confirmed"
    return None


CHECKS: tuple[Check, ...] = (known_order, backed_claim)
"""The desk's checks of a draft, besides those that every agent runs."""
