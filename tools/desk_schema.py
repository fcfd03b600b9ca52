"""How the support desk finds its rows in a database that somebody else designed.

The desk speaks of roles (`orders.customer`, `orders.placed_on`). A `DeskSchema` says which table
and column plays each role; what it does not say keeps the role's own name. Tables are reflected
and checked when the desk opens, so that a wrong name is an error then and not in a conversation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from sqlalchemy import Column, Engine, MetaData, Table, inspect
from sqlalchemy.exc import SQLAlchemyError

from agentmesh.errors import ConfigError, StoreError

ADDRESS = ("street", "postcode", "city", "country")

ROLES: Mapping[str, tuple[str, ...]] = {
    "customers": ("id", "name", "email", *ADDRESS),
    "orders": (
        "id",
        "customer",
        "status",
        "placed_on",
        "shipped_on",
        "delivered_on",
        "carrier",
        "tracking",
        "shipping_cents",
        *ADDRESS,
    ),
    "products": ("id", "name", "category", "price_cents", "stock"),
    "lines": ("id", "order", "product", "quantity", "price_cents"),
    "returns": ("id", "order", "product", "quantity", "reason", "status", "created_on"),
    "refunds": ("id", "order", "cents", "reason", "created_on"),
    "tickets": ("id", "customer", "order", "topic", "text", "for_person", "created_on"),
    "articles": ("id", "title", "body"),
}
"""What the desk needs of each table."""

OPTIONAL = frozenset(
    {
        ("orders", "carrier"),
        ("orders", "tracking"),
        ("orders", "shipping_cents"),
        ("products", "category"),
        ("products", "stock"),
        ("tickets", "for_person"),
    }
)
"""Roles that a schema may lack: map them to None."""

STATUSES = ("processing", "shipped", "delivered", "cancelled")
"""The desk's words for the state of an order."""


@dataclass(frozen=True, slots=True)
class TableMap:
    """The table that plays a part, and its columns where they are not called like their role."""

    table: str
    columns: Mapping[str, str | None] = field(default_factory=dict)


def _same(name: str) -> TableMap:
    return TableMap(name)


@dataclass(frozen=True, slots=True)
class DeskSchema:
    """Which tables and columns play which part.

    `statuses` gives the database's word for each of the desk's order states. Amounts are whole
    cents in the database.

    Example:
        >>> schema = DeskSchema(orders=TableMap("sales", {"customer": "buyer", "carrier": None}))
        >>> schema.orders.table
        'sales'
    """

    customers: TableMap = field(default_factory=lambda: _same("customers"))
    orders: TableMap = field(default_factory=lambda: _same("orders"))
    products: TableMap = field(default_factory=lambda: _same("products"))
    lines: TableMap = field(default_factory=lambda: _same("lines"))
    returns: TableMap = field(default_factory=lambda: _same("returns"))
    refunds: TableMap = field(default_factory=lambda: _same("refunds"))
    tickets: TableMap = field(default_factory=lambda: _same("tickets"))
    articles: TableMap = field(default_factory=lambda: _same("articles"))
    statuses: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.statuses:
            if name not in STATUSES:
                raise ConfigError(
                    f"unknown order status {name!r} in the desk's schema",
                    hint=f"map these: {', '.join(STATUSES)}",
                )
        for part in PARTS:
            unknown = sorted(set(self.part(part).columns) - set(ROLES[part]))
            if unknown:
                raise ConfigError(
                    f"the desk's {part} have no role {unknown[0]!r}",
                    hint=f"their roles are {', '.join(ROLES[part])}",
                )

    def part(self, name: str) -> TableMap:
        """Return the mapping of one part."""
        found: TableMap = getattr(self, name)
        return found


PARTS = tuple(part.name for part in fields(DeskSchema) if part.name in ROLES)


class Part:
    """One reflected table, its columns by role."""

    def __init__(self, name: str, table: Table, columns: Mapping[str, Column[object]]) -> None:
        self.name = name
        self.table = table
        self._columns = columns

    def __getitem__(self, role: str) -> Column[object]:
        return self._columns[role]

    def __contains__(self, role: object) -> bool:
        return role in self._columns

    @property
    def labels(self) -> list[Column[object]]:
        """All mapped columns, labelled by their role."""
        return [column.label(role) for role, column in self._columns.items()]  # type: ignore[misc]

    def row(self, values: Mapping[str, object]) -> dict[str, object]:
        """Return `values` by column name; roles that the schema lacks are dropped."""
        return {
            self._columns[role].name: value
            for role, value in values.items()
            if role in self._columns
        }


def reflect(engine: Engine, schema: DeskSchema) -> dict[str, Part]:
    """Return the schema's tables as they are in the database, by part.

    Raises:
        StoreError: the database cannot be read.
        ConfigError: a mapped table or column does not exist.
    """
    metadata = MetaData()
    try:
        names = set(inspect(engine).get_table_names()) | set(inspect(engine).get_view_names())
        return {part: _part(part, schema.part(part), names, metadata, engine) for part in PARTS}
    except SQLAlchemyError as error:
        raise StoreError(
            f"the desk's database {engine.url.render_as_string()!r} cannot be read: "
            f"{str(error).splitlines()[0]}",
            hint="check the URL and that the database exists",
        ) from error


def _part(name: str, mapped: TableMap, names: set[str], metadata: MetaData, engine: Engine) -> Part:
    if mapped.table not in names:
        raise ConfigError(
            f"the desk's {name} should be in the table {mapped.table!r}, which does not exist",
            hint=f"name it: DeskSchema({name}=TableMap('...'))",
        )
    table = Table(mapped.table, metadata, autoload_with=engine, resolve_fks=False)
    columns: dict[str, Column[object]] = {}
    for role in ROLES[name]:
        column = mapped.columns.get(role, role)
        if column is None and (name, role) in OPTIONAL:
            continue
        if column is None or column not in table.c:
            raise ConfigError(
                f"the table {mapped.table!r} has no column {column!r} for the desk's {name}.{role}",
                hint=f"map it: TableMap({mapped.table!r}, {{{role!r}: '...'}})",
            )
        columns[role] = table.c[column]
    return Part(name, table, columns)
