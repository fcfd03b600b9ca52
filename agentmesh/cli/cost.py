"""`agentmesh cost DATABASE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentmesh.cli.database import opened
from agentmesh.cli.output import console, dollars, print_json, table
from agentmesh.errors import ConfigError

if TYPE_CHECKING:
    from agentmesh.audit.accounts import Accounts, Sum

app = typer.Typer(add_completion=False)

ROWS = 12


@app.command()
def cost(
    database: Annotated[str, typer.Argument(help="A database file or its URL.")],
    tenant: Annotated[str, typer.Option(help="Whose ledger.")] = "default",
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="agent, node, purpose, tier, model, user, session or day; may be repeated."
        ),
    ] = None,
    session: Annotated[str | None, typer.Option(help="Only this session.")] = None,
    user: Annotated[str | None, typer.Option(help="Only this user.")] = None,
    misses: Annotated[int, typer.Option(min=0, help="How many of the last misses to show.")] = 5,
    flagship: Annotated[str | None, typer.Option(help="The model to compare with.")] = None,
    prices: Annotated[Path | None, typer.Option(help="A JSON file of your own prices.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with charts here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show where the money went, why the cache missed, and what was saved."""
    from agentmesh.audit.accounts import KEYS, add_up
    from agentmesh.economy.prices import PriceBook

    keys = by or ["tier", "model", "agent", "day"]
    for key in keys:
        if key not in KEYS:
            raise ConfigError(f"--by {key!r} is no key", hint=f"one of {', '.join(KEYS)}")
    with opened(database, tenant) as memory:
        report = add_up(
            memory,
            prices=PriceBook.from_file(prices) if prices else None,
            flagship=flagship,
            last=misses,
            calls=memory.ledger.calls(session=session, user=user),
        )
    if html is not None:
        _write(html, report)
    if as_json:
        print_json(report.as_dict())
    else:
        _print(report, keys, html)


def _write(path: Path, report: Accounts) -> None:
    from agentmesh.audit.cost_page import cost_page

    text = cost_page(report)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{str(path)!r} cannot be written: {error.strerror}", hint="choose another --html"
        ) from error


def _print(report: Accounts, keys: list[str], html: Path | None) -> None:
    from rich.markup import escape

    out = console()
    if not report.total.calls:
        out.print("The ledger holds no calls.")
        return
    for key in keys:
        rows = list(report.by[key].items())
        shown = table(f"By {key}", key, "calls", "input", "read", "written", "out", "cost")
        for name, row in rows[:ROWS]:
            shown.add_row(escape(name) or "(none)", *_figures(row))
        if len(rows) > 1:
            shown.add_section()
            shown.add_row(
                "all" if len(rows) <= ROWS else f"all {len(rows)}", *_figures(report.total)
            )
        out.print(shown)
    _print_waste(report)
    _print_misses(report)
    saved = report.savings
    if saved is not None:
        out.print(
            f"One {saved.flagship} for all {saved.steps:,} steps: {dollars(saved.uncached)}"
            f" uncached, {dollars(saved.cached)} cached. As it was: {dollars(report.total.cost)}."
        )
    if report.unread:
        out.print(
            f"{len(report.unread)} sessions cannot be explained, their prompts are damaged:"
            f" {', '.join(report.unread[:3])} (see 'agentmesh memory verify').",
            markup=False,
        )
    if html is not None:
        out.print(f"Charts: {html}", markup=False)


def _figures(row: Sum) -> list[str]:
    used = row.usage
    known = dollars(row.cost if row.unpriced < row.calls else None)
    more = f" + {row.unpriced} unknown" if 0 < row.unpriced < row.calls else ""
    return [
        f"{row.calls:,}",
        f"{used.input:,}",
        f"{row.read_share:.1%}",
        f"{used.write + used.write_long:,}",
        f"{used.output:,}",
        known + more,
    ]


def _print_waste(report: Accounts) -> None:
    if not report.waste:
        console().print("No token that could have been read was paid again.")
        return
    shown = table("Paid above reading the same tokens", "cause", "calls", "tokens", "cost")
    for cause, row in report.waste.items():
        shown.add_row(cause, f"{row.calls:,}", f"{row.tokens:,}", dollars(row.cost))
    console().print(shown)
    console().print(f"{report.explained:.1%} of missed tokens have a known cause.", style="dim")
    told, agreed = report.vendor
    if told:
        console().print(
            f"The vendor named the cause of {told} misses itself, {agreed} times the same.",
            style="dim",
        )


def _print_misses(report: Accounts) -> None:
    from rich.markup import escape

    out = console()
    for row in report.misses:
        where = row.parting
        place = f"{where.segment}, character {where.offset:,}" if where else row.place
        out.print(
            f"[bold]{row.cause}[/]: call {row.call} of session {escape(repr(row.session))},"
            f" {row.tokens:,} tokens{escape(': ' + place) if place else ''}"
        )
        if where is not None:
            out.print(f"    before  {escape(repr(where.before))}", style="dim")
            out.print(f"    now     {escape(repr(where.after))}", style="dim")
