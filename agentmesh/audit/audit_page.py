"""The report of `agentmesh audit` as a page with charts."""

from __future__ import annotations

from agentmesh.audit.audit import Report
from agentmesh.audit.cost_page import dollars
from agentmesh.audit.page import Bar, bars, facts, page, paragraph, section, table


def audit_page(report: Report) -> str:
    """Return the report as an HTML document."""
    logged = report.designs["as logged"]
    share = report.repeated / report.input if report.input else 0.0
    return page(
        "What these logs would cost",
        facts(
            [
                ("calls", f"{report.calls:,}"),
                ("tokens of prompts", f"{report.input:,}"),
                ("of them sent before in the same session", f"{share:.1%}"),
                ("as logged", dollars(logged.cost) if logged.calls else "unknown"),
            ]
        ),
        section("The bill under each design", _designs(report)),
        section("What breaks the cache", _breaks(report)),
        section("The workload", _kinds(report)),
        section("Prompts that begin alike", _heads(report)),
        section("Models", _models(report)),
        section("Records that could not be used", _flaws(report)),
        section("Assumptions", "".join(paragraph(line) for line in report.assumptions)),
    )


def _designs(report: Report) -> str:
    rows = [
        Bar(name, [row.cost], f"{dollars(row.cost)} · {row.read_share:.0%} read")
        for name, row in report.designs.items()
    ]
    missing = "".join(
        paragraph(f"{calls:,} calls of {model} are in no bill: its price is unknown.")
        for model, calls in report.unpriced.items()
    )
    return (
        bars("Input and output", rows) + missing if report.designs["as logged"].calls else missing
    )


def _breaks(report: Report) -> str:
    if not report.breaks:
        return paragraph("Nothing in these logs breaks the cache.")
    rows = [
        [cause, f"{row.times:,}", f"{row.tokens:,}", row.example]
        for cause, row in report.breaks.items()
    ]
    return table(("cause", "times", "tokens to pay again", "first place"), rows, text=(3,))


def _kinds(report: Report) -> str:
    titles = {"complexity": "How hard", "data": "What data", "latency": "Who waits"}
    return "".join(
        bars(titles[name], [Bar(kind, [n], f"{n:,}") for kind, n in rows.items()])
        for name, rows in report.kinds.items()
    )


def _heads(report: Report) -> str:
    rows = [[h.start, f"{h.tokens:,}", f"{h.sessions:,}", f"{h.calls:,}"] for h in report.heads]
    return table(("its beginning", "tokens", "conversations", "calls"), rows)


def _models(report: Report) -> str:
    rows = [
        [name, f"{row.calls:,}", f"{row.input:,}", f"{row.output:,}", f"{row.scale:.2f}"]
        for name, row in report.models.items()
    ]
    columns = ("model", "calls", "prompt tokens", "answer tokens", "its tokens per ours")
    return table(columns, rows)


def _flaws(report: Report) -> str:
    rows = [[what, f"{row.times:,}", row.example] for what, row in report.flaws.items()]
    return table(("what", "times", "first place"), rows, text=(2,))
