"""`agentmesh audit FILE...`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentmesh.cli.output import console, dollars, print_json, table
from agentmesh.errors import ConfigError

if TYPE_CHECKING:
    from agentmesh.audit.audit import Report
    from agentmesh.audit.pieces import Part

app = typer.Typer(add_completion=False)

MUCH = 1.8
"""A model that counts so many of its tokens for one of ours was sent more than the log holds."""

PATIENCE_S = 2.0
"""A run that is over before gets no progress bar."""


@app.command()
def audit(
    files: Annotated[list[Path], typer.Argument(help="Chat logs, JSON or JSON lines.")],
    tools: Annotated[
        Path | None, typer.Option(help="Tool schemas of logs that do not hold them.")
    ] = None,
    prices: Annotated[Path | None, typer.Option(help="A JSON file of your own prices.")] = None,
    standard: Annotated[
        str, typer.Option(help="The model that simple steps are routed to.")
    ] = "anthropic:claude-haiku-5-5",
    student_success: Annotated[
        float, typer.Option(help="Share of simple steps that a student gets right.")
    ] = 0.9,
    unpriced_as: Annotated[
        str | None, typer.Option(help="Bill models of unknown price as this one.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with charts here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Read chat logs and say what they cost, what breaks their cache, and what would cost less.

    Reads OpenAI-style JSON lines, Anthropic request logs, LangSmith runs, OpenTelemetry GenAI
    exports, and tau-bench and tau2-bench files. Nothing leaves this machine.
    """
    from agentmesh.audit.audit import Audit, NothingKnown
    from agentmesh.audit.designs import Assumptions
    from agentmesh.economy.prices import PriceBook

    book = PriceBook.from_file(prices) if prices else PriceBook()
    if unpriced_as is not None and book.price(unpriced_as) is None:
        raise ConfigError(
            f"the price of {unpriced_as!r} is unknown", hint="name a model that has one"
        )
    assumptions = Assumptions(
        standard=standard, student_success=student_success, unpriced_as=unpriced_as
    )
    taker = Audit(book, assumptions, _tools(tools) if tools else ())
    total = sum(path.stat().st_size for path in files if path.is_file())
    with _progress(total, quiet=as_json) as progress:
        done, unknown = 0, []
        for path in files:
            try:
                taker.read(path, lambda read, before=done: progress(before + read))  # type: ignore[misc]
            except NothingKnown as error:  # among logs that are known, it is named in the report
                unknown.append(error)
            done += path.stat().st_size
    if len(unknown) == len(files):
        raise unknown[0]
    report = taker.report()
    if html is not None:
        _write(html, report)
    if as_json:
        print_json(report.as_dict())
    else:
        _print(report, html)


def _tools(path: Path) -> list[Part]:
    from agentmesh.audit.pieces import tools_of

    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"tool schemas {str(path)!r} cannot be read: {error}", hint="a JSON list of schemas"
        ) from error
    if not isinstance(value, list):
        raise ConfigError(f"{str(path)!r} holds no list", hint="a JSON list of schemas")
    return tools_of(value)


def _write(path: Path, report: Report) -> None:
    from agentmesh.audit.audit_page import audit_page

    try:
        path.write_text(audit_page(report), encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{str(path)!r} cannot be written: {error.strerror}", hint="choose another --html"
        ) from error


@contextmanager
def _progress(total: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar on the terminal's error stream once a run has taken two seconds."""
    if quiet or not sys.stderr.isatty():
        yield lambda _read: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("reading"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    began = time.monotonic()
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("reading", total=total)
    shown = False

    def update(read: int) -> None:
        nonlocal shown
        if not shown and time.monotonic() - began > PATIENCE_S:
            bar.start()
            shown = True
        if shown:
            bar.update(task, completed=read)

    try:
        yield update
    finally:
        if shown:
            bar.stop()


def _print(report: Report, html: Path | None) -> None:
    from rich.markup import escape

    out = console()
    forms = ", ".join(f"{n:,} {form}" for form, n in report.forms.items())
    share = report.repeated / report.input if report.input else 0.0
    out.print(
        f"{report.calls:,} calls in {report.conversations:,} records ({forms}),"
        f" {report.bytes / 1e6:,.1f} MB. {report.input:,} tokens of prompts, {share:.1%} of them"
        " sent before in the same session.",
        markup=False,
    )
    for model, row in report.models.items():
        if row.scale > MUCH:
            out.print(
                f"{_printable(model)} was sent {row.scale:.1f} times the tokens that the logs show:"
                " give what they leave out, such as tool schemas, with --tools.",
                markup=False,
            )
    _print_designs(report)
    shown = table("The workload", "kind", "steps", "share")
    for name, rows in report.kinds.items():
        for kind, number in rows.items():
            shown.add_row(f"{name}: {kind}", f"{number:,}", f"{number / report.calls:.1%}")
        shown.add_section()
    out.print(shown)
    if report.heads:
        shown = table("Prompts that begin alike", "beginning", "tokens", "conversations", "calls")
        for head in report.heads:
            start = escape(_printable(head.start)[:60])
            shown.add_row(start, f"{head.tokens:,}", f"{head.sessions:,}", f"{head.calls:,}")
        out.print(shown)
    _print_breaks(report)
    out.print("Assumptions", style="bold")
    for line in report.assumptions:
        out.print(f"- {line}", style="dim", markup=False)
    if html is not None:
        out.print(f"Charts: {html}", markup=False)


def _printable(text: str) -> str:
    """Return a log's text on one line, without what would steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _print_designs(report: Report) -> None:
    out = console()
    logged = report.designs["as logged"]
    if logged.calls:
        shown = table("The bill under each design", "design", "calls", "read", "bill", "of logged")
        for name, row in report.designs.items():
            part = f"{row.cost / logged.cost:.1%}" if logged.cost else "?"
            bill = [f"{row.calls:,}", f"{row.read_share:.1%}", dollars(row.cost), part]
            shown.add_row(name, *bill)
        out.print(shown)
    for model, calls in report.unpriced.items():
        out.print(
            f"{calls:,} calls of {_printable(model)} are in no bill: its price is unknown"
            " (--prices or --unpriced-as).",
            markup=False,
        )


def _print_breaks(report: Report) -> None:
    out = console()
    for title, rows in (
        ("What breaks the cache", report.breaks),
        ("Records that could not be used", report.flaws),
    ):
        if not rows:
            continue
        out.print(title, style="bold")
        for cause, row in rows.items():
            tokens = f", {row.tokens:,} tokens to pay again" if row.tokens else ""
            out.print(f"- {cause}: {row.times:,} times{tokens}", markup=False)
            out.print(f"    first at {_printable(row.example)}", style="dim", markup=False)
    if not report.breaks:
        out.print("Nothing in these logs breaks the cache.")
