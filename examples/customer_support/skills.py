"""How the capable stand-in settles a wish: look up, decide by the desk's policy, act, report.

Each skill is a function from a turn and a wish to a part of the answer. It calls tools as if
their results were at hand; where one is not, `Missing` travels up and becomes the tool call.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

from agentmesh.examples.customer_support.turn import ToolFailed, Turn
from agentmesh.examples.customer_support.wishes import Wish, intent_of, orders_in

Skill = Callable[[Turn, Wish], str]
Order = dict[str, Any]

LATE_DAYS = 14
KEEP_BELOW = 50.0

_MONEY = re.compile(
    r"money|refund|geld|erstatt|rembours|argent|reembols|dinero|pay (?:me )?back", re.IGNORECASE
)
_ALL = re.compile(
    r"\b(?:both|all of (?:it|them)|everything|alles|beide|tout|todo)\b", re.IGNORECASE
)
_WORDS = {
    "zelt": "tent",
    "rucksack": "pack",
    "jacke": "jacket",
    "stiefel": "boots",
    "schuhe": "shoes",
    "schlafsack": "sleeping bag",
    "isomatte": "mat",
    "flasche": "bottle",
    "kocher": "stove",
    "becher": "mug",
    "lampe": "torch",
    "stöcke": "poles",
    "tente": "tent",
    "sac": "pack",
    "veste": "jacket",
    "chaussures": "boots",
    "tienda": "tent",
    "mochila": "pack",
    "chaqueta": "jacket",
    "botas": "boots",
}
_ADDRESS = re.compile(
    r"(?P<street>[^,.:;\n]*\d[^,.:;\n]*),\s*"
    r"(?P<postcode>[A-Z]{1,2}\d{1,2}[A-Z]?\s?\d[A-Z]{2}|\d{4,5}(?:\s?[A-Z]{2})?)\s+"
    r"(?P<city>[A-ZÀ-Ýa-zà-ý][\w\-']+)"
)
_LEAD = re.compile(
    r"^.*(?:\bto|\bis|\bist|\bnach|\ban|\best|\bes|\blautet|\baddress|\badresse|\bat)\s+",
    re.IGNORECASE,
)

HELP: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(words, re.IGNORECASE), query)
    for words, query in (
        (
            r"park|pick ?up|store address|where (?:is|are) (?:your|the)|visit|laden|abholen",
            "store address pick-up",
        ),
        (r"repair|spare|zip\b|reparatur", "repairs spare parts"),
        (r"gift card|gutscheinkarte|voucher code", "gift cards vouchers"),
        (r"newsletter|password|passwort|unsubscribe", "account password newsletter"),
        (r"wash|clean|care\b|dry|store a|proof|waschen|imprägn", "care waterproof jackets tents"),
        (r"size|sizing|größe|half a size|run (?:small|large|true)", "size guide jackets boots"),
        (r"warranty|guarantee|garantie", "warranty damaged goods"),
        (r"return polic|how (?:do|can) i return|returns? work|rückgaberecht", "return article how"),
        (
            r"refunds? (?:arrive|take|come)|how long (?:does|do) (?:a |the )?refund",
            "refund arrives when",
        ),
        (r"pay|invoice|rechnung|zahlung", "payment methods invoices"),
        (r"cost|fee|price|how much|free shipping|versandkosten|frais|gastos", "shipping costs"),
        (
            r"how long|delivery time|shipping time|lieferzeit|dauert|délai|tarda|express|(?:ship|deliver) (?:to|outside)",
            "shipping times delivery",
        ),
        (
            r"open|hours|close|what time|öffnung|geöffnet|horaire|horario",
            "opening hours desk store",
        ),
    )
)
"""The help desk's topics: what customers say, and the key words that find the article."""

_PERSON_TOPICS = (
    (re.compile(r"charge|fraud|payment|abgebucht", re.IGNORECASE), "payment"),
    (re.compile(r"delete|account|gdpr|konto", re.IGNORECASE), "account"),
    (re.compile(r"quote|angebot", re.IGNORECASE), "product"),
    (
        re.compile(
            r"complaint|lawyer|police|injur|hurt|burn|hospital|beschwerde|anwalt", re.IGNORECASE
        ),
        "complaint",
    ),
)


class Ask(Exception):
    """The wish cannot be settled as it is; the text is what the customer is told instead."""


def status(turn: Turn, wish: Wish) -> str:
    """Tell where an order is; one that is late is searched for."""
    order = _order(turn, wish, lambda o: o["status"] in ("processing", "shipped"))
    if order["status"] == "shipped":
        return _shipped(turn, wish, order)
    return turn.say(f"status_{order['status']}", **order)


def late(turn: Turn, wish: Wish) -> str:
    """Refund a late parcel or have it searched for; ask for patience before its time."""
    order = _order(turn, wish, lambda o: o["status"] == "shipped")
    if order["status"] == "delivered":
        text = f"Order {order['order']} is marked as delivered, but the customer has not got it."
        made = turn.call("open_ticket", topic="order", text=text, order=order["order"])
        told = turn.say("status_delivered", **order)
        return f"{told} {turn.say('handed', **made)}"
    if order["status"] == "shipped":
        return _shipped(turn, wish, order)
    return turn.say(f"status_{order['status']}", **order)


def address(turn: Turn, wish: Wish) -> str:
    """Change the address of an order that is not shipped, of the account, or of both."""
    words = wish.text
    found = _ADDRESS.search(words)
    about_order = bool(wish.order) or bool(
        re.search(
            r"\border\b|parcel|package|bestellung|commande|pedido|deliver it|send it",
            words,
            re.IGNORECASE,
        )
    )
    order = None
    if about_order:
        order = _order(turn, wish, lambda o: o["status"] == "processing")
        if order["status"] != "processing":
            return turn.say("address_too_late", **order)
    if found is None:
        raise Ask(turn.say("which_address"))
    new = {
        "street": _LEAD.sub("", found["street"]).strip(),
        "postcode": found["postcode"],
        "city": found["city"],
    }
    shown = f"{new['street']}, {new['postcode']} {new['city']}"
    parts = []
    if order is not None:
        turn.call("change_address", **new, order=order["order"])
        parts.append(turn.say("address_order", order=order["order"], address=shown))
    if order is None or re.search(r"account|konto|everywhere|future", words, re.IGNORECASE):
        turn.call("change_address", **new)
        parts.append(turn.say("address_account", address=shown))
    return " ".join(parts)


def cancel(turn: Turn, wish: Wish) -> str:
    """Cancel an order that is not shipped."""
    order = _order(turn, wish, lambda o: o["status"] == "processing")
    if order["status"] == "processing":
        done = turn.call("cancel_order", order=order["order"])
        return turn.say("cancelled", order=order["order"], refunded=done["refunded"])
    phrases = {"shipped": "cancel_too_late", "delivered": "cancel_delivered"}
    return turn.say(phrases.get(order["status"], "status_cancelled"), **order)


def send_back(turn: Turn, wish: Wish) -> str:
    """Announce a return within the window."""
    order = _order(turn, wish, lambda o: o["status"] == "delivered")
    if order["status"] != "delivered":
        phrase = "status_cancelled" if order["status"] == "cancelled" else "return_not_yet"
        return turn.say(phrase, **order)
    if order["as_of"] > order["returnable_until"]:
        return turn.say("return_too_late", **order)
    parts = []
    for line in _items(turn, wish, order):
        before = [r for r in order["returns"] if r["product"] == line["product"]]
        if before:
            state = before[-1]["status"]
            parts.append(
                turn.say("return_exists", item=line["name"], order=order["order"], state=state)
            )
            continue
        made = turn.call(
            "return_item",
            order=order["order"],
            product=line["product"],
            reason="changed_mind",
            quantity=line["quantity"],
        )
        parts.append(turn.say("returned", item=line["name"], **made))
    if wish.intent == "exchange":
        parts.append(turn.say("order_anew"))
    return " ".join(parts)


def fault(turn: Turn, wish: Wish) -> str:
    """Refund what came damaged, wrong or not at all; from 50 EUR on it goes back as well."""
    order = _order(turn, wish, lambda o: o["status"] == "delivered")
    if order["status"] != "delivered":
        return turn.say(f"status_{order['status']}", **order)
    parts = []
    for line in _items(turn, wish, order):
        reason = _fault_reason(wish.text)
        amount = round(float(line["price"]) * line["quantity"], 2)
        try:
            paid = turn.call("refund", order=order["order"], amount=amount, reason=reason)
        except ToolFailed as failed:
            parts.append(_refused(turn, order, str(failed)))
            continue
        parts.append(turn.say("refunded", **paid))
        if reason == "missing":
            continue
        if float(line["price"]) < KEEP_BELOW:
            parts.append(turn.say("keep_it"))
            continue
        made = turn.call(
            "return_item",
            order=order["order"],
            product=line["product"],
            reason=reason,
            quantity=line["quantity"],
        )
        parts.append(turn.say("returned_fault", item=line["name"], **made))
    return " ".join(parts)


def money_back(turn: Turn, wish: Wish) -> str:
    """Refund a return that has been checked, or say when the money comes."""
    order = _order(turn, wish, lambda o: o["status"] in ("delivered", "cancelled"))
    if order["status"] == "cancelled":
        return turn.say("status_cancelled", **order)
    back = [row for row in order["returns"] if row["status"] == "received"]
    if back and float(order["refunded"]) == 0:
        price = {line["product"]: float(line["price"]) for line in order["lines"]}
        amount = round(price[back[0]["product"]] * int(back[0]["quantity"]), 2)
        try:
            paid = turn.call("refund", order=order["order"], amount=amount, reason="changed_mind")
        except ToolFailed as failed:
            return _refused(turn, order, str(failed))
        return turn.say("refunded", **paid)
    if float(order["refunded"]) > 0:
        return turn.say("money_done", order=order["order"], amount=order["refunded"])
    return turn.say("money_waits" if order["returns"] else "money_none", order=order["order"])


def help_topic(turn: Turn, wish: Wish) -> str:
    """Answer a general question from the help articles."""
    query = next((query for words, query in HELP if words.search(wish.text)), wish.text[:200])
    found = turn.call("search_help", question=query)["articles"]
    return turn.say("help", body=found[0]["body"]) if found else turn.say("help_none")


def product(turn: Turn, wish: Wish) -> str:
    """Tell price and stock of a product."""
    found = turn.call("find_product", words=_product_words(wish.text))["products"]
    if not found:
        raise Ask(turn.say("product_none"))
    return " ".join(
        turn.say("product_in" if item["stock"] else "product_out", **item) for item in found[:3]
    )


def my_account(turn: Turn, wish: Wish) -> str:
    """Tell the address and email that the account holds."""
    me = turn.call("my_account")
    return turn.say("account", address=_one_line(me["address"]), email=me["email"])


def person(turn: Turn, wish: Wish) -> str:
    """Hand the conversation over, with all that was said."""
    topic = next((topic for words, topic in _PERSON_TOPICS if words.search(wish.text)), "other")
    said = " / ".join((*turn.earlier[-3:], turn.text))
    summary = f"The customer wrote: {said}"[:1900]
    orders = orders_in(wish.text)
    try:
        made = turn.call(
            "hand_over", summary=summary, topic=topic, order=orders[0] if orders else ""
        )
    except ToolFailed:
        made = turn.call("hand_over", summary=summary, topic=topic, order="")
    return turn.say("handed", **made)


def goodwill(turn: Turn, wish: Wish) -> str:
    """Decline a discount once; if the customer insists, hand over."""
    if any(intent_of(words) == "goodwill" for words in turn.earlier):
        return person(turn, wish)
    return turn.say("goodwill_no")


def unclear(turn: Turn, wish: Wish) -> str:
    """Ask what is meant; after two questions in a row hand over."""
    if wish.order:
        return status(turn, wish)
    if turn.questions >= 2:
        return person(turn, wish)
    raise Ask(turn.say("unclear"))


def saying(phrase: str) -> Skill:
    """Return the skill of saying one thing without any tool."""
    return lambda turn, wish: turn.say(phrase)


SKILLS: dict[str, Skill] = {
    "address": address,
    "cancel": cancel,
    "exchange": send_back,
    "fault": fault,
    "goodwill": goodwill,
    "greeting": saying("hello"),
    "help": help_topic,
    "injection": saying("rules_no"),
    "late": late,
    "money_back": money_back,
    "my_account": my_account,
    "off_topic": saying("off_topic_no"),
    "other_customer": saying("other_no"),
    "person": person,
    "product": product,
    "return": send_back,
    "spam": saying("spam_no"),
    "status": status,
    "thanks": saying("bye"),
    "": unclear,
}
"""What the capable stand-in can do, by intent."""


def _order(turn: Turn, wish: Wish, fits: Callable[[Order], bool]) -> Order:
    """Return the order that is meant: named, spoken of before, or the only one that fits."""
    number = wish.order or turn.order
    if number:
        try:
            return turn.call("order_status", order=number)
        except ToolFailed as failed:
            raise Ask(turn.say("no_such_order", order=number)) from failed
    listed = turn.call("list_orders")["orders"]
    candidates = [order for order in listed if fits(order)]
    if len(candidates) != 1:
        named = [
            o for o in candidates or listed if any(_names(wish.text, a) for a in o["articles"])
        ]
        candidates = named or candidates
    if not candidates and len(listed) == 1:
        candidates = listed
    if not candidates:
        raise Ask(turn.say("no_orders"))
    if len(candidates) > 1:
        shown = ", ".join(f"{o['order']} ({', '.join(o['articles'])})" for o in candidates)
        raise Ask(turn.say("which_order", orders=shown))
    return turn.call("order_status", order=candidates[0]["order"])


def _items(turn: Turn, wish: Wish, order: Order) -> list[dict[str, Any]]:
    """Return the lines that are meant; with several of them the customer must name one."""
    lines: list[dict[str, Any]] = order["lines"]
    if len(lines) == 1 or _ALL.search(wish.text):
        return lines
    scores = [_names(wish.text, line["name"]) for line in lines]
    best = [
        line for line, score in zip(lines, scores, strict=True) if score and score == max(scores)
    ]
    if len(best) != 1:
        items = ", ".join(line["name"] for line in lines)
        raise Ask(turn.say("which_item", order=order["order"], items=items))
    return best


def _names(text: str, article: str) -> int:
    """Return how many words of an article's name a text contains."""
    said = text.casefold()
    for word, english in _WORDS.items():
        if word in said:
            said += f" {english}"
    stems = [word.rstrip("s") for word in article.casefold().split()]
    return sum(bool(re.search(rf"\b{re.escape(stem)}s?\b", said)) for stem in stems)


def _shipped(turn: Turn, wish: Wish, order: Order) -> str:
    due = date.fromisoformat(order["shipped_on"]) + timedelta(days=LATE_DAYS)
    if date.fromisoformat(order["as_of"]) <= due:
        return turn.say("status_shipped", **order)
    if _MONEY.search(wish.text):
        left = round(float(order["total"]) - float(order["refunded"]), 2)
        try:
            paid = turn.call("refund", order=order["order"], amount=left, reason="lost")
        except ToolFailed as failed:
            return _refused(turn, order, str(failed))
        return turn.say("refunded", **paid)
    text = (
        f"Please search for the parcel {order['tracking']} ({order['carrier']}) of order "
        f"{order['order']}, shipped on {order['shipped_on']}."
    )
    made = turn.call("open_ticket", topic="order", text=text, order=order["order"])
    return turn.say("late_ticket", ticket=made["ticket"], **order)


def _refused(turn: Turn, order: Order, why: str) -> str:
    """Hand over a refund that the tool or a person refused."""
    summary = f"A refund for order {order['order']} was not made: {why[:300]}"
    made = turn.call("hand_over", summary=summary, topic="payment", order=order["order"])
    return turn.say("refund_refused", order=order["order"], **made)


def _fault_reason(text: str) -> str:
    if re.search(r"wrong|not what i ordered|something else|falsch|mauvais", text, re.IGNORECASE):
        return "wrong_item"
    if re.search(r"missing|not in the|incomplete|fehlt", text, re.IGNORECASE):
        return "missing"
    return "damaged"


def _product_words(text: str) -> str:
    """Return the words that name a product: the longest run of capitals, or what follows `the`."""
    runs = re.findall(r"(?<=\s)[A-ZÀ-Ý][\w-]+(?: (?:[A-ZÀ-Ý][\w-]+|\d+))*", text)
    if runs:
        return str(max(runs, key=len))[:80]
    found = re.search(
        r"\b(?:the|a|an|any|der|die|das) ([\w -]+?)(?: in stock| available| cost|[?.,!]|$)", text
    )
    words = found.group(1) if found else text
    return str(words).strip()[:80]


def _one_line(address: dict[str, str]) -> str:
    return f"{address['street']}, {address['postcode']} {address['city']}, {address['country']}"
