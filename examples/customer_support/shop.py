"""The shop behind the desk: a seeded generator of its SQLite database.

The same seed gives the same rows on every machine. Nobody in it is real.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from functools import cache
from importlib.resources import files
from pathlib import Path

from sqlalchemy import (
    Boolean,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    insert,
)

TODAY = date(2026, 11, 16)
"""The shop's first day of traffic, a Monday."""

METADATA = MetaData()

Table(
    "customers",
    METADATA,
    Column("id", String(12), primary_key=True),
    Column("name", String(80), nullable=False),
    Column("email", String(120), nullable=False, unique=True),
    Column("street", String(120), nullable=False),
    Column("postcode", String(12), nullable=False),
    Column("city", String(80), nullable=False),
    Column("country", String(2), nullable=False),
    Column("language", String(2), nullable=False),
)
Table(
    "products",
    METADATA,
    Column("id", String(12), primary_key=True),
    Column("name", String(80), nullable=False),
    Column("category", String(40), nullable=False),
    Column("price_cents", Integer, nullable=False),
    Column("stock", Integer, nullable=False),
)
Table(
    "orders",
    METADATA,
    Column("id", String(12), primary_key=True),
    Column("customer_id", ForeignKey("customers.id"), nullable=False, index=True),
    Column("status", String(20), nullable=False),
    Column("placed_on", DateTime, nullable=False),
    Column("shipped_on", Date),
    Column("delivered_on", Date),
    Column("carrier", String(20)),
    Column("tracking", String(30)),
    Column("shipping_cents", Integer, nullable=False),
    Column("street", String(120), nullable=False),
    Column("postcode", String(12), nullable=False),
    Column("city", String(80), nullable=False),
    Column("country", String(2), nullable=False),
)
Table(
    "order_lines",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("order_id", ForeignKey("orders.id"), nullable=False, index=True),
    Column("product_id", ForeignKey("products.id"), nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("price_cents", Integer, nullable=False),
)
Table(
    "returns",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("order_id", ForeignKey("orders.id"), nullable=False, index=True),
    Column("product_id", ForeignKey("products.id"), nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("reason", String(20), nullable=False),
    Column("status", String(20), nullable=False),
    Column("created_on", Date, nullable=False),
)
Table(
    "refunds",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("order_id", ForeignKey("orders.id"), nullable=False, index=True),
    Column("cents", Integer, nullable=False),
    Column("reason", String(20), nullable=False),
    Column("created_on", Date, nullable=False),
)
Table(
    "tickets",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("customer_id", ForeignKey("customers.id"), nullable=False),
    Column("order_id", ForeignKey("orders.id")),
    Column("topic", String(20), nullable=False),
    Column("text", Text, nullable=False),
    Column("for_person", Boolean, nullable=False),
    Column("created_on", DateTime, nullable=False),
)
Table(
    "articles",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("title", String(120), nullable=False),
    Column("body", Text, nullable=False),
)

CITIES = {
    "DE": ("de", ("Freiburg 79098", "Hamburg 20095", "Leipzig 04109", "Bremen 28195")),
    "AT": ("de", ("Wien 1010", "Graz 8010", "Linz 4020")),
    "GB": ("en", ("Leeds LS1 4DT", "Bristol BS1 5TR", "York YO1 7HH")),
    "IE": ("en", ("Galway H91E2N4", "Cork T12W8KP")),
    "NL": ("en", ("Utrecht 3511AB", "Delft 2611GW")),
    "FR": ("fr", ("Lyon 69002", "Nantes 44000")),
    "ES": ("es", ("Bilbao 48001", "Granada 18001")),
}
FIRST = {
    "de": ("Anna", "Jonas", "Lena", "Felix", "Marie", "Paul", "Greta", "Lukas", "Ida", "Emil"),
    "en": ("Emma", "Oliver", "Grace", "Harry", "Sophie", "Jack", "Ruby", "Callum", "Nora", "Sam"),
    "fr": ("Camille", "Louis", "Chloé", "Hugo", "Manon", "Jules"),
    "es": ("Lucía", "Mateo", "Sara", "Pablo", "Elena", "Iker"),
}
LAST = {
    "de": ("Brandt", "Huber", "Keller", "Vogt", "Sommer", "Winkler", "Lorenz", "Beck", "Thoma"),
    "en": ("Walker", "Hughes", "Doyle", "Barnes", "Foster", "Murphy", "Jansen", "Clarke"),
    "fr": ("Moreau", "Lefèvre", "Girard", "Mercier", "Blanc"),
    "es": ("Navarro", "Iglesias", "Romero", "Vidal", "Ortega"),
}
STREETS = {
    "de": ("Gartenstraße", "Bergweg", "Am Anger", "Kirchgasse", "Talstraße"),
    "en": ("Mill Lane", "Station Road", "Orchard Close", "Castle Street"),
    "fr": ("rue des Lilas", "avenue du Parc", "quai des Arts"),
    "es": ("calle Mayor", "calle del Prado", "plaza Nueva"),
}
GOODS = {
    "tents": (12_900, 64_900, ("Trail Tent", "Dome Tent", "Family Tent", "Bivy")),
    "rucksacks": (4_900, 21_900, ("Day Pack", "Trek Pack", "Hip Bag", "Kids Pack")),
    "boots": (8_900, 23_900, ("Hiking Boots", "Trail Shoes", "Winter Boots")),
    "jackets": (6_900, 32_900, ("Rain Jacket", "Down Jacket", "Wind Jacket", "Fleece")),
    "sleeping": (3_900, 28_900, ("Sleeping Bag", "Sleeping Mat", "Liner")),
    "kitchen": (990, 11_900, ("Gas Stove", "Pot Set", "Bottle", "Mug")),
    "small gear": (490, 7_900, ("Head Torch", "Trekking Poles", "Map Case", "First Aid Kit")),
}
MODELS = ("Alva", "Birk", "Cairn", "Dale", "Elm", "Fjord", "Grove")


@dataclass(frozen=True, slots=True)
class Customer:
    """A row of `customers`."""

    id: str
    name: str
    email: str
    street: str
    postcode: str
    city: str
    country: str
    language: str


@dataclass(frozen=True, slots=True)
class Product:
    """A row of `products`."""

    id: str
    name: str
    category: str
    price_cents: int
    stock: int


@dataclass(frozen=True, slots=True)
class Line:
    """A row of `order_lines`."""

    id: int
    order_id: str
    product_id: str
    quantity: int
    price_cents: int


@dataclass(frozen=True, slots=True)
class Order:
    """A row of `orders`."""

    id: str
    customer_id: str
    status: str
    placed_on: datetime
    shipped_on: date | None
    delivered_on: date | None
    carrier: str | None
    tracking: str | None
    shipping_cents: int
    street: str
    postcode: str
    city: str
    country: str


@dataclass(frozen=True, slots=True)
class Return:
    """A row of `returns`."""

    id: int
    order_id: str
    product_id: str
    quantity: int
    reason: str
    status: str
    created_on: date


@dataclass(frozen=True, slots=True)
class Refund:
    """A row of `refunds`."""

    id: int
    order_id: str
    cents: int
    reason: str
    created_on: date


@dataclass(frozen=True, slots=True)
class Shop:
    """All rows of a shop, in memory: what the database holds and the traffic is made from."""

    customers: tuple[Customer, ...]
    products: tuple[Product, ...]
    orders: tuple[Order, ...]
    lines: tuple[Line, ...]
    returns: tuple[Return, ...]
    refunds: tuple[Refund, ...]

    @property
    def rows(self) -> int:
        """How many rows the database gets, the help articles aside."""
        parts = (self.customers, self.products, self.orders, self.lines)
        return sum(map(len, parts)) + len(self.returns) + len(self.refunds)


def generate(seed: int = 7, *, customers: int = 600) -> Shop:
    """Return the shop of a seed: the same rows for the same seed, always."""
    dice = random.Random(seed)
    people = tuple(_customer(dice, number) for number in range(customers))
    products = tuple(_products(dice))
    orders: list[Order] = []
    lines: list[Line] = []
    for person in people:
        for _ in range(dice.choice((1, 1, 2, 2, 3, 4))):
            order = _order(dice, person, len(orders))
            orders.append(order)
            lines += _lines(dice, order.id, products, len(lines))
    returns, refunds = _after_sale(dice, orders, lines)
    return Shop(people, products, tuple(orders), tuple(lines), returns, refunds)


def _customer(dice: random.Random, number: int) -> Customer:
    country = dice.choices(tuple(CITIES), (34, 10, 22, 8, 12, 8, 6))[0]
    language, cities = CITIES[country]
    city, _, postcode = dice.choice(cities).partition(" ")
    first, last = dice.choice(FIRST[language]), dice.choice(LAST[language])
    street = dice.choice(STREETS[language])
    house = dice.randint(1, 140)
    return Customer(
        id=f"C-{1001 + number}",
        name=f"{first} {last}",
        email=f"customer{1001 + number}@example.com",
        street=f"{house} {street}" if language in ("en", "fr") else f"{street} {house}",
        postcode=postcode,
        city=city,
        country=country,
        language=language,
    )


def _products(dice: random.Random) -> list[Product]:
    made: list[Product] = []
    for category, (low, high, names) in GOODS.items():
        for name in names:
            for model in MODELS:
                price = dice.randrange(low, high, 500) // 100 * 100 + 90
                stock = dice.choice((0, 0, 3, 12, 40, 120))
                number = f"P-{101 + len(made)}"
                made.append(Product(number, f"{name} {model}", category, price, stock))
    return made


AGES = {
    "processing": (0, 1),
    "shipped": (2, 6),
    "late": (18, 27),
    "recent": (8, 26),
    "old": (50, 600),
    "cancelled": (5, 300),
}
"""Days since an order of each sort was placed."""


def _order(dice: random.Random, person: Customer, number: int) -> Order:
    sort = dice.choices(tuple(AGES), (18, 12, 6, 28, 31, 5))[0]
    age = dice.randint(*AGES[sort])
    placed = datetime(TODAY.year, TODAY.month, TODAY.day, 7) - timedelta(
        days=age, minutes=dice.randrange(600)
    )
    sent = placed.date() + timedelta(days=1) if sort not in ("processing", "cancelled") else None
    came = None
    if sent and sort in ("recent", "old"):
        came = sent + timedelta(days=dice.randint(2, 5))
    status = {"late": "shipped", "recent": "delivered", "old": "delivered"}.get(sort, sort)
    return Order(
        id=f"W-{10101 + 7 * number}",
        customer_id=person.id,
        status=status,
        placed_on=placed,
        shipped_on=sent,
        delivered_on=came,
        carrier=dice.choice(("DHL", "DPD", "GLS")) if sent else None,
        tracking=f"{dice.randrange(10**11, 10**12)}" if sent else None,
        shipping_cents=dice.choice((0, 490, 490, 1290)),
        street=person.street,
        postcode=person.postcode,
        city=person.city,
        country=person.country,
    )


def _lines(
    dice: random.Random, order: str, products: tuple[Product, ...], first: int
) -> list[Line]:
    chosen = dice.sample(products, dice.choice((1, 1, 1, 2, 2, 3)))
    return [
        Line(first + place + 1, order, product.id, dice.choice((1, 1, 1, 2)), product.price_cents)
        for place, product in enumerate(chosen)
    ]


def _after_sale(
    dice: random.Random, orders: list[Order], lines: list[Line]
) -> tuple[tuple[Return, ...], tuple[Refund, ...]]:
    """Return some returns of delivered orders, and the refunds of those that came back."""
    first = {line.order_id: line for line in reversed(lines)}
    returns: list[Return] = []
    refunds: list[Refund] = []
    for order in orders:
        if order.delivered_on is None or dice.random() > 0.25:
            continue
        line = first[order.id]
        status = dice.choice(("announced", "received", "received", "refunded"))
        day = order.delivered_on + timedelta(days=1)
        reason = dice.choice(("changed_mind", "changed_mind", "damaged"))
        returns.append(
            Return(len(returns) + 1, order.id, line.product_id, line.quantity, reason, status, day)
        )
        if status == "refunded":
            cents = line.quantity * line.price_cents
            refunds.append(Refund(len(refunds) + 1, order.id, cents, reason, day))
    return tuple(returns), tuple(refunds)


@cache
def articles() -> tuple[dict[str, object], ...]:
    """Return the help articles that ship with the example."""
    text = files("agentmesh.examples.customer_support").joinpath("data/articles.json")
    return tuple(json.loads(text.read_text(encoding="utf-8")))


def write(shop: Shop, path: Path) -> str:
    """Write the shop to a new SQLite file and return its URL."""
    path.unlink(missing_ok=True)
    url = f"sqlite:///{path}"
    engine = create_engine(url)
    tables = METADATA.tables
    with engine.connect() as db:
        db.exec_driver_sql("pragma journal_mode = wal")
    with engine.begin() as db:
        METADATA.create_all(db)
        for name, rows in (
            ("customers", shop.customers),
            ("products", shop.products),
            ("orders", shop.orders),
            ("order_lines", shop.lines),
            ("returns", shop.returns),
            ("refunds", shop.refunds),
        ):
            db.execute(insert(tables[name]), [asdict(row) for row in rows])
        db.execute(insert(tables["articles"]), [dict(article) for article in articles()])
    engine.dispose()
    return url
