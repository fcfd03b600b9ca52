"""How `agentmesh route` shows what it found: tables for people, plain values for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from agentmesh.cli.output import console, dollars, print_json, table

if TYPE_CHECKING:
    from agentmesh.routers import Pardon, Replayed, RouterVersion, Run, Said, Status

CHARS = 70


def show_versions(found: list[RouterVersion], name: str) -> None:
    """Print a router's versions, each with its last event."""
    shown = table(f"versions of {name}", "version", "state", "better by", "rows", "last event")
    for one in found:
        event = one.events[-1]
        told = f"{_time(event['at'])} {event['by']}: {event['why']}"
        rows = str(one.trained.get("rows", ""))
        shown.add_row(one.label, one.state, _measured(one), rows, plain(cut(told)))
    console().print(shown if found else f"{name} has no versions")


def show_status(found: Status, hours: float) -> None:
    """Print models, tiers, and what the live version rests on."""
    out = console()
    shown = table(
        f"models, last {hours:g} hours",
        *("model", "tier", "circuit", "answered", "failed", "median", "p95", "requests/min"),
    )
    shown.columns[0].no_wrap = True
    for m in found.models:
        h = m.health
        open_ = f"{h.state}, {h.failures} in a row ({h.last_error}), {h.retry_in_s:.0f} s left"
        failed = ", ".join(f"{count} {kind}" for kind, count in sorted(m.errors.items())) or "0"
        seconds = ("" if s is None else f"{s:.2f} s" for s in (m.median_s, m.p95_s))
        circuit = h.state if h.state == "closed" else open_
        counts = circuit, f"{m.answered:,}", failed, *seconds, f"{m.requests_per_minute:,}"
        shown.add_row(m.model, m.tier, *counts)
    out.print(shown)
    shown = table("tiers", "tier", "accepted drafts", "share", "refused by checks", "cost")
    for t in found.tiers:
        row = f"{t.accepted:,}", f"{t.share:.0%}", f"{t.refused:,}", dollars(t.cost)
        shown.add_row(t.tier, *row)
    out.print(shown)
    out.print(
        f"{found.turns:,} turns, {found.escalated:,} escalated; {found.blocked:,} messages blocked,"
        f" {found.unreviewed:,} not reviewed"
    )
    if (verifier := found.verifier) is None:
        out.print("verifier: none is live")
    else:
        about = verifier.trained
        told = f"; judges {about['tier']}, above {about['against']}" if about else ""
        out.print(f"verifier: {verifier.label} {_measured(verifier)}{told}", markup=False)
    if found.version is None:
        out.print("router: the shipped one (no version is live)")
        return
    out.print(f"router: {found.version.label}, above matched random {_measured(found.version)}")
    out.print(f"contract: {_contract(found.version)}", markup=False)
    if found.drift is not None:
        said = "alarm: " if found.drift.alarm else ""
        out.print(f"drift: {said}{found.drift.reason}", markup=False)


def status_told(found: Status) -> dict[str, Any]:
    """Return a status for JSON."""
    return found._asdict() | {
        "models": [asdict(one) for one in found.models],
        "tiers": [one._asdict() for one in found.tiers],
        "version": asdict(found.version) if found.version else None,
        "verifier": asdict(found.verifier) if found.verifier else None,
        "drift": asdict(found.drift) if found.drift else None,
    }


def show_learned(router: Run, verifier: Run, *, as_json: bool) -> None:
    """Print what came of a training run."""
    if as_json:
        print_json(_run_told(router) | {"verifier": _run_told(verifier)})
        return
    out = console()
    for name, run in (("router", router), ("verifier", verifier)):
        what = f"{run.version.label} {run.done}" if run.version else f"{name}: nothing to do"
        out.print(f"{what}: {run.reason} ({run.labels} labels)", markup=False)
    if router.drift is not None and router.drift.alarm:
        out.print(f"drift: {router.drift.reason}; the contract of the version before is void")


def show_pardon(done: Pardon, *, as_json: bool) -> None:
    """Print what follows from saying what a blocked message really was."""
    message, version = done.message, done.version.label if done.version else None
    if as_json:
        told = {"message": message.id, "label": message.label}
        print_json({**told, "live": version, "threshold": done.threshold})
        return
    out = console()
    said = f"{message.id} is {message.label}, says {message.by}: a label for the next training"
    out.print(said, markup=False)
    if version:
        out.print(f"{version} is live; undo: agentmesh route rollback DATABASE --why ...")
    if done.threshold and done.threshold[0] != done.threshold[1]:
        out.print("the spam threshold rose from {:.2f} to {:.2f}".format(*done.threshold))


def _run_told(run: Run) -> dict[str, Any]:
    return run._asdict() | {
        "version": asdict(run.version) if run.version else None,
        "drift": asdict(run.drift) if run.drift else None,
    }


def show_blocked(found: list[Said], *, as_json: bool) -> None:
    """Print blocked messages, and what people said of them."""
    if as_json:
        print_json([one._asdict() | {"id": one.id} for one in found])
        return
    shown = table("blocked messages", "message", "taken for", "why", "text", "review")
    shown.columns[0].min_width = max((len(one.id) for one in found), default=0)
    for column in shown.columns[2:]:
        column.justify, column.no_wrap = "left", False
    for one in found:
        v = one.verdict
        kind = f"{v.get('kind', '?')} {v['probability']:.0%}" if "probability" in v else "?"
        label = f"{one.label} ({one.by})" if one.label else ""
        shown.add_row(*map(plain, (one.id, kind, cut(v.get("reason", "")), cut(one.text), label)))
    console().print(shown if found else "no message was blocked")


def show_replay(found: Replayed, router: str, most: int) -> None:
    """Print what another router had chosen, and the turns that would change most."""
    out = console()
    shown = table(f"{found.turns:,} turns, replayed by {router}", "tier", "was", "would be")
    for tier in sorted(set(found.was) | set(found.now)):
        shown.add_row(tier, *(f"{c[tier] / found.turns:.0%}" for c in (found.was, found.now)))
    shown.add_row("cost", dollars(found.paid), f"about {dollars(round(found.expected))}")
    out.print(shown if found.turns else "no turn could be priced")
    if found.changes and most > 0:
        shown = table("turns that change", "message", "was", "would be", "paid", "expected", "text")
        changes = sorted(found.changes, key=lambda one: one.expected - one.paid)
        for one in changes[:most]:
            money = dollars(one.paid), dollars(round(one.expected))
            shown.add_row(plain(one.message), one.was, one.now, *money, plain(cut(one.text, 40)))
        out.print(shown)
    out.print(
        f"blocked in addition: {len(found.newly_blocked)}, let in: {len(found.newly_admitted)},"
        f" left out for want of a price: {found.unpriced}"
    )


def _contract(version: RouterVersion) -> str:
    about = version.trained.get("contract")
    if not about:
        return "none (train with --alpha)"
    said = f"at most {about['alpha']:.1%} additional failures at {about['confidence']:.0%}"
    if version.void:
        return f"VOID, every step goes up: {version.void}"
    if about["threshold"] is None:
        return f"{said}: not proven, every step goes up"
    kept, bound = about["kept"], about["bound"]
    return f"{said}: proven to {bound:.1%}, keeps {kept:.0%} of the steps on the cheap tier"


def _measured(version: RouterVersion) -> str:
    found = version.measured
    return "{value:+.2f} [{low:+.2f}, {high:+.2f}]".format(**found) if found else ""


def _time(at: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def cut(text: str, chars: int = CHARS) -> str:
    """Return a text in one line of limited length."""
    line = " ".join(text.split())
    return line if len(line) <= chars else line[: chars - 1] + "…"


def plain(text: str) -> str:
    """Return a text as it is, whatever of it looks like markup."""
    from rich.markup import escape

    return escape(text)
