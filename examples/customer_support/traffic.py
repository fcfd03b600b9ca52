"""The support requests of the demo: written by hand and made from templates, with their outcome.

Each request is bound to rows of the seeded shop, so that what must be true afterwards is known
before any model has answered. Requests come in sessions, customers come back on later days, and
between 8 and 10% of all requests are spam.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any

from agentmesh.errors import InputError
from agentmesh.examples.customer_support.expect import Case, Expect, euros, outcome
from agentmesh.examples.customer_support.shop import TODAY, Line, Order, Return, Shop

DAYS = 4
FOLLOWED = 0.6
"""The share of templated openings after which the customer says more, where they can."""

APART_S = 150
"""In the busy hours of each day a session begins this often, on average."""

_NEW_STREETS = ("Rosenweg", "Hafenstraße", "Lindenallee", "Church Lane", "Park Road")
_NEW_CITIES = (("50667", "Köln"), ("01067", "Dresden"), ("8020", "Graz"), ("LS1 4DT", "Leeds"))
_UNNAMED = frozenset({"spam", "off_topic", "injection", "hello", "thanks"})
_PREFERENCES = ("short answers", "formal address", "email rather than phone")


@dataclass(frozen=True, slots=True)
class Inquiry:
    """One support request; `at` is when it comes, in seconds since 1970."""

    id: int
    session: str
    user: str
    at: float
    text: str
    expect: Expect


@dataclass(frozen=True, slots=True)
class Traffic:
    """All requests in the order in which they come, and what is known of returning customers."""

    inquiries: tuple[Inquiry, ...]
    profiles: Mapping[str, Mapping[str, str]]

    @property
    def spam(self) -> int:
        """How many of the requests are spam."""
        return sum(inquiry.expect.intent == "spam" for inquiry in self.inquiries)


@dataclass(frozen=True, slots=True)
class _Session:
    user: str
    language: str
    turns: tuple[tuple[str, Expect], ...]


@cache
def _stored(name: str) -> list[dict[str, Any]]:
    path = files("agentmesh.examples.customer_support").joinpath(f"data/{name}.json")
    loaded: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def traffic(shop: Shop, *, requests: int = 220, seed: int = 7) -> Traffic:
    """Return `requests` support requests for a shop: the same for the same seed, always.

    Raises:
        InputError: the shop is too small, or `requests` is not at least 1.
    """
    if requests < 1:
        raise InputError(f"cannot make {requests!r} requests", hint="ask for at least 1")
    dice = random.Random(seed)
    pool = _Pool(shop, dice)
    plans = [dict(plan) for plan in _stored("handwritten")]
    written = sum(len(plan["turns"]) for plan in plans)
    plans += _from_templates(dice, max(0, requests - written))
    plans.sort(key=lambda plan: plan["need"] not in _SCARCE)
    sessions = [_session(plan, pool, dice) for plan in plans]
    dice.shuffle(sessions)
    return _scheduled(_cut(sessions, requests), shop, dice)


def _from_templates(dice: random.Random, count: int) -> list[dict[str, Any]]:
    """Return sessions of `count` turns in all, their openings in the templates' shares."""
    templates = _stored("templates")
    shares = [template["share"] for template in templates]
    uses = [0] * len(templates)
    plans: list[dict[str, Any]] = []
    turns = 0
    while turns < count:
        # The template that lags most behind its share comes next.
        place = min(range(len(templates)), key=lambda i: ((uses[i] + 1) / shares[i], i))
        template = templates[place]
        text = template["texts"][uses[place] % len(template["texts"])]
        uses[place] += 1
        want = template["want"]
        opening = text if want == ["spam"] else _as_typed(text, dice)
        plan = {"need": template["need"], "turns": [{"text": opening, "want": want}]}
        if dice.random() < FOLLOWED and turns + 1 < count:
            plan["turns"] += _followup(dice, want[0], template["need"])
        turns += len(plan["turns"])
        plans.append(plan)
    return plans


def _followup(dice: random.Random, after: str, need: str) -> list[dict[str, Any]]:
    """Return one more turn for a session that began with `after`, if there is a fitting one."""
    fitting = [
        follow
        for follow in _stored("followups")
        if follow["after"] == after and follow["need"] == need
    ]
    if not fitting:
        return []
    follow = dice.choice(fitting)
    return [{"text": dice.choice(follow["texts"]), "want": follow["want"]}]


def _as_typed(text: str, dice: random.Random) -> str:
    """Return a template as somebody might have typed it."""
    roll = dice.random()
    if roll < 0.2:
        text = dice.choice(("Hi, ", "Hello, ", "Hey, ")) + text
    elif roll < 0.35:
        text += dice.choice((" Thanks!", " Thank you.", " Please hurry."))
    elif roll < 0.45:
        text = text[0].lower() + text[1:].rstrip(".?")
    if dice.random() < 0.06:
        text = _typo(text, dice)
    return text


def _typo(text: str, dice: random.Random) -> str:
    """Swap two letters of one longer word that is no placeholder."""
    words = text.split(" ")
    long = [i for i, word in enumerate(words) if len(word) > 5 and word.isalpha()]
    if not long:
        return text
    at = dice.choice(long)
    cut = dice.randrange(1, len(words[at]) - 2)
    word = words[at]
    words[at] = word[:cut] + word[cut + 1] + word[cut] + word[cut + 2 :]
    return " ".join(words)


def _session(plan: Mapping[str, Any], pool: _Pool, dice: random.Random) -> _Session:
    case, second = pool.take(plan["need"], plan.get("second", ""))
    slots = {**_slots(case, pool, dice), "number": str(dice.randrange(100, 999))}
    case = replace(case, slots=slots)
    if second is not None:
        slots |= {"order2": second.number, "item2": pool.item(second)}
        second = replace(second, slots=slots)
    turns = []
    for turn in plan["turns"]:
        expects = [
            outcome(name.removesuffix("@2"), second if name.endswith("@2") and second else case)
            for name in turn["want"]
        ]
        whole = expects[0]
        for expect in expects[1:]:
            whole = whole.and_(expect)
        turns.append((turn["text"].format(**slots), whole))
    return _Session(case.customer.id, case.customer.language, tuple(turns))


def _slots(case: Case, pool: _Pool, dice: random.Random) -> dict[str, str]:
    postcode, city = dice.choice(_NEW_CITIES)
    street = f"{dice.choice(_NEW_STREETS)} {dice.randint(1, 90)}"
    other = pool.foreign(case.customer.id)
    product = dice.choice(pool.shop.products)
    return {
        "order": case.number,
        "item": pool.item(case),
        "street": street,
        "postcode": postcode,
        "city": city,
        "address": f"{street}, {postcode} {city}",
        "other": other.id,
        "other_street": other.street,
        "other_tracking": str(other.tracking),
        "product": product.name,
        "price": euros(product.price_cents),
    }


def _cut(sessions: list[_Session], requests: int) -> list[_Session]:
    """Return whole sessions up to `requests` turns; the last one may be cut short."""
    kept: list[_Session] = []
    left = requests
    for session in sessions:
        if left <= 0:
            break
        kept.append(replace(session, turns=session.turns[:left]))
        left -= len(session.turns)
    return kept


def _scheduled(sessions: list[_Session], shop: Shop, dice: random.Random) -> Traffic:
    """Return the sessions' turns on days and minutes; a customer's sessions on rising days."""
    by_user: dict[str, list[_Session]] = {}
    for session in sessions:
        by_user.setdefault(session.user, []).append(session)
    profiles = _profiles(by_user, shop, dice)
    window_s = max(1, APART_S * len(sessions) // DAYS)
    start = datetime(TODAY.year, TODAY.month, TODAY.day, 16, tzinfo=UTC)
    timed: list[tuple[float, str, str, str, Expect]] = []
    for user, own in by_user.items():
        days = sorted(dice.sample(range(DAYS), min(len(own), DAYS)))
        for place, session in enumerate(own):
            day = days[place % len(days)] if len(own) <= DAYS else place % DAYS
            offset = timedelta(days=day, seconds=dice.randrange(window_s))
            at = (start + offset).timestamp()
            name = f"{user}-{place + 1}"
            for number, (text, expect) in enumerate(session.turns):
                wanted = _as_known(expect, profiles.get(user), first=number == 0)
                timed.append((at, name, user, text, wanted))
                at += dice.randrange(25, 150)
    timed.sort(key=lambda item: (item[0], item[1]))
    inquiries = tuple(
        Inquiry(number + 1, name, user, at, text, expect)
        for number, (at, name, user, text, expect) in enumerate(timed)
    )
    return Traffic(inquiries, profiles)


_LANGUAGES = {"de": "German", "en": "English", "fr": "French", "es": "Spanish"}


def _profiles(
    by_user: Mapping[str, list[_Session]], shop: Shop, dice: random.Random
) -> dict[str, dict[str, str]]:
    """Return the facts that are known of customers who come more than once."""
    people = {person.id: person for person in shop.customers}
    return {
        user: {
            "name": people[user].name,
            "language": _LANGUAGES[people[user].language],
            "preference": dice.choice(_PREFERENCES),
        }
        for user, own in by_user.items()
        if len(own) > 1
    }


def _as_known(expect: Expect, profile: Mapping[str, str] | None, *, first: bool) -> Expect:
    """Return what a known customer may expect besides: their language, and once their name."""
    parts = set(expect.intent.split("+"))
    if profile is None or parts & _UNNAMED:
        return expect
    says = expect.says
    if first:
        says = (*says, (profile["name"].split()[0],))
    german = profile["language"] == "German"
    return replace(expect, says=says, language="de" if german else "")


_SCARCE = frozenset({"open_single", "open_several", "processing", "late"})
"""Needs that are bound first, while all customers are free."""


class _Pool:
    """The shop's orders by what can happen to them; each is given out once."""

    def __init__(self, shop: Shop, dice: random.Random) -> None:
        self.shop = shop
        self._dice = dice
        self._customers = {person.id: person for person in shop.customers}
        self._names = {product.id: product.name for product in shop.products}
        self._lines: dict[str, list[Line]] = {}
        for line in shop.lines:
            self._lines.setdefault(line.order_id, []).append(line)
        self._returns: dict[str, list[Return]] = {}
        for row in shop.returns:
            self._returns.setdefault(row.order_id, []).append(row)
        self._refunded = {refund.order_id: refund.cents for refund in shop.refunds}
        self._own: dict[str, list[Order]] = {}
        for order in shop.orders:
            self._own.setdefault(order.customer_id, []).append(order)
        self._orders = list(shop.orders)
        dice.shuffle(self._orders)
        counts = sorted(self._own, key=lambda user: (-len(self._own[user]), user))
        self._regulars = set(counts[:60])
        self._regular_list = sorted(self._regulars)
        self._used: set[str] = set()
        self._reserved: set[str] = set()

    def take(self, need: str, second: str = "") -> tuple[Case, Case | None]:
        """Return rows that fit, and of the same customer a second order if one is needed."""
        if need == "anyone":
            return self._anyone(), None
        fits = NEEDS[need]
        alone = need in ("open_single", "open_several")
        wanted = self._dice.random() < 0.6 and not alone
        for order in sorted(
            self._orders, key=lambda o: wanted and o.customer_id not in self._regulars
        ):
            case = self._case(order)
            if not self._free(order, alone=alone) or not fits(self, case):
                continue
            other = self._second(order, second) if second else None
            if second and other is None:
                continue
            self._used |= {order.id, *((other.number,) if other else ())}
            if alone:
                self._reserved.add(order.customer_id)
            return case, other
        raise InputError(f"the shop has no more order for {need!r}", hint="generate a larger shop")

    def item(self, case: Case) -> str:
        """Return the name of the line in question."""
        return self._names[case.line.product_id] if case.line else ""

    def foreign(self, customer: str) -> Order:
        """Return an order of somebody else, with a parcel."""
        return next(o for o in self._orders if o.customer_id != customer and o.tracking)

    def own(self, case: Case) -> list[Order]:
        """Return all orders of the case's customer, newest first."""
        return sorted(self._own[case.customer.id], key=lambda o: o.placed_on, reverse=True)

    def _anyone(self) -> Case:
        free = sorted(set(self._customers) - self._reserved)
        known = [user for user in self._regular_list if user not in self._reserved]
        user = self._dice.choice(known if self._dice.random() < 0.4 else free)
        return Case(self._customers[user])

    def _free(self, order: Order, *, alone: bool) -> bool:
        if order.id in self._used or order.customer_id in self._reserved:
            return False
        return not alone or not any(o.id in self._used for o in self._own[order.customer_id])

    def _second(self, order: Order, need: str) -> Case | None:
        for other in self._own[order.customer_id]:
            case = self._case(other)
            if other.id != order.id and other.id not in self._used and NEEDS[need](self, case):
                return case
        return None

    def _case(self, order: Order) -> Case:
        lines = tuple(self._lines[order.id])
        line = min(lines, key=lambda line: line.price_cents * line.quantity)
        returns = tuple(self._returns.get(order.id, ()))
        if returns:
            line = next(line for line in lines if line.product_id == returns[0].product_id)
        refunded = self._refunded.get(order.id, 0)
        return Case(self._customers[order.customer_id], order, lines, line, returns, refunded)


def _delivered(case: Case, *, least: int, most: int, lines: int = 1) -> bool:
    order = case.order
    if order is None or order.delivered_on is None or case.returns:
        return False
    age = (TODAY - order.delivered_on).days
    single = len(case.lines) == 1 if lines == 1 else len(case.lines) >= lines
    return least <= age <= most and single


def _recent(case: Case) -> bool:
    return _delivered(case, least=0, most=22)


def _open(order: Order) -> bool:
    return order.status in ("processing", "shipped")


def _aged(case: Case, status: str, least: int, most: int) -> bool:
    order = case.order
    if order is None or order.status != status:
        return False
    return least <= (TODAY - order.placed_on.date()).days <= most


def _only_open(pool: _Pool, case: Case) -> bool:
    open_orders = [order for order in pool.own(case) if _open(order)]
    return open_orders == [case.order] and not _aged(case, "shipped", 7, 99)


def _one_of_several(pool: _Pool, case: Case) -> bool:
    open_orders = [order for order in pool.own(case) if _open(order)]
    return len(open_orders) > 1 and case.order in open_orders and not _aged(case, "shipped", 7, 99)


def _back(case: Case, status: str) -> bool:
    rows = case.returns
    return len(rows) == 1 and rows[0].status == status and rows[0].reason == "changed_mind"


NEEDS: Mapping[str, Callable[[_Pool, Case], bool]] = {
    "processing": lambda pool, case: _aged(case, "processing", 0, 2),
    "shipped": lambda pool, case: _aged(case, "shipped", 0, 6),
    "late": lambda pool, case: _aged(case, "shipped", 17, 99),
    "recent": lambda pool, case: _recent(case),
    "cheap": lambda pool, case: (
        _recent(case) and case.lines[0].price_cents < 5_000 and case.amount <= 15_000
    ),
    "middle": lambda pool, case: (
        _recent(case) and case.lines[0].price_cents >= 5_000 and case.amount <= 15_000
    ),
    "dear": lambda pool, case: _recent(case) and case.amount > 15_000,
    "multi": lambda pool, case: (
        _delivered(case, least=0, most=22, lines=2) and case.amount <= 15_000
    ),
    "old": lambda pool, case: _delivered(case, least=40, most=600) and case.amount <= 15_000,
    "received": lambda pool, case: _back(case, "received") and case.refunded_cents == 0,
    "announced": lambda pool, case: _back(case, "announced"),
    "open_single": _only_open,
    "open_several": _one_of_several,
}
"""Which orders can play which part."""
