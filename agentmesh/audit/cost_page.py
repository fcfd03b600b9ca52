"""The report of `agentmesh cost` as a page with charts."""

from __future__ import annotations

from collections.abc import Sequence

from agentmesh.audit.accounts import Accounts, LastMiss, Savings, Sum
from agentmesh.audit.page import Bar, bars, facts, page, paragraph, section, table

_COLUMNS = ("", "calls", "input", "read", "written", "fresh", "output", "cost")
_TITLES = {
    "agent": "By agent",
    "node": "By node",
    "purpose": "By purpose",
    "tier": "By tier",
    "model": "By model",
    "user": "By user",
    "session": "By session",
    "day": "By day",
}


def dollars(micro: int | None) -> str:
    """Return micro-dollars as people read them."""
    return "unknown" if micro is None else f"${micro / 1e6:,.4f}"


def cost_page(report: Accounts, *, rows: int = 20) -> str:
    """Return the report as an HTML document; tables show the `rows` dearest lines."""
    total = report.total
    figures = [
        ("calls", f"{total.calls:,}"),
        ("known cost", dollars(total.cost)),
        ("of the input read from cache", f"{total.read_share:.1%}"),
        ("of missed tokens explained", f"{report.explained:.1%}"),
    ]
    if total.unpriced:
        figures.append(("calls of unknown price", f"{total.unpriced:,}"))
    days = list(report.by["day"].items())[-31:]
    return page(
        "What the agents cost",
        facts(figures),
        section("Against one flagship", _savings(report.savings, total)),
        section("Input by day", _kinds(days)),
        section("Waste by cause", _waste(report)),
        section("The last misses", _misses(report.misses)),
        *(_split(report, key, rows) for key in _TITLES),
    )


def _split(report: Accounts, key: str, rows: int) -> str:
    lines = list(report.by[key].items())
    chart = bars(
        "Cost",
        [Bar(name, [row.cost], dollars(row.cost)) for name, row in lines[:rows]],
    )
    more = f"{len(lines) - rows:,} more lines are not shown." if len(lines) > rows else ""
    return section(
        _TITLES[key],
        chart if len(lines) > 1 else "",
        table(_COLUMNS, [_line(name, row) for name, row in lines[:rows]]),
        paragraph(more) if more else "",
    )


def _line(name: str, row: Sum) -> list[str]:
    used = row.usage
    cost = dollars(row.cost) if row.unpriced < row.calls or not row.calls else "unknown"
    return [
        name or "(none)",
        f"{row.calls:,}",
        f"{used.input:,}",
        f"{row.read_share:.1%}",
        f"{used.write + used.write_long:,}",
        f"{used.fresh:,}",
        f"{used.output:,}",
        cost + (f" + {row.unpriced} unknown" if 0 < row.unpriced < row.calls else ""),
    ]


def _kinds(days: list[tuple[str, Sum]]) -> str:
    rows = []
    for day, row in days:
        used = row.usage
        parts = [used.read, used.write + used.write_long, used.fresh]
        rows.append(Bar(day, parts, f"{used.input:,} tokens, {row.read_share:.0%} read"))
    return bars("Input tokens:", rows, ("read", "written", "fresh"))


def _waste(report: Accounts) -> str:
    rows = [
        Bar(cause, [row.cost], f"{dollars(row.cost)} · {row.tokens:,} tokens")
        for cause, row in report.waste.items()
    ]
    if not rows:
        return paragraph("Nothing that could be read was paid twice.")
    return bars("What was paid above reading the same tokens", rows)


def _misses(rows: Sequence[LastMiss]) -> str:
    lines = []
    for row in rows:
        where = row.parting
        lines.append(
            [
                f"{row.session} #{row.call}",
                f"{row.tokens:,}",
                row.cause,
                f"{where.segment}, character {where.offset:,}" if where else row.place or "—",
                where.before if where else "",
                where.after if where else "",
            ]
        )
    columns = ("call", "tokens", "cause", "place", "before", "now")
    return table(columns, lines, text=(2, 3, 4, 5))


def _savings(savings: Savings | None, total: Sum) -> str:
    if savings is None:
        return ""
    rows = [Bar("as it was", [total.cost], dollars(total.cost))]
    for name, cost in (("cached", savings.cached), ("uncached", savings.uncached)):
        if cost is not None:
            rows.append(Bar(f"flagship, {name}", [cost], dollars(cost)))
    note = (
        f"The same {savings.steps:,} steps on {savings.flagship} alone: each recorded prompt once, "
        "billed by the vendor's published rules at four characters a token."
    )
    return bars("Cost", rows) + paragraph(note)
