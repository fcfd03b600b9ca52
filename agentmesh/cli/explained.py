"""`agentmesh route explain`: why a request goes, or a recorded call went, to its tier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from agentmesh.cli.output import console, dollars, print_json, table
from agentmesh.cli.routers_shown import plain
from agentmesh.errors import InputError

if TYPE_CHECKING:
    from agentmesh.memory import Call, Memory
    from agentmesh.routing import Router, TierFacts
    from agentmesh.routing.classifier import Weight

BAR_CHARS = 24


class Explained(NamedTuple):
    """A decision with everything that spoke for and against it."""

    title: str
    text: str
    decision: dict[str, Any]
    tier: str
    tiers: Sequence[TierFacts]
    features: list[Weight]
    failing: list[Weight]
    admission: str = ""
    outcome: str = ""


def of_text(router: Router, text: str, tiers: Sequence[TierFacts]) -> Explained:
    """Explain what a router makes of a request."""
    from agentmesh.routing import Step

    verdict, decision = router.admit(text), router.route(Step(text), tiers)
    admission = f"{'admitted' if verdict.allowed else 'blocked'}: {verdict.reason}"
    features = _features(router, text, decision.kind)
    return Explained("", text, decision.record(), decision.tier, tiers, *features, admission)


def of_call(memory: Memory, call_id: str) -> Explained:
    """Explain a call of the ledger by what was recorded, and by the router that decided."""
    from agentmesh.routers import Book, Versions, said
    from agentmesh.routing import Router

    calls = memory.ledger.calls()
    call = next((one for one in calls if str(one.id) == call_id), None)
    if call is None:
        raise InputError(f"the ledger has no call {call_id!r}", hint="ids are in: agentmesh cost")
    text = next(
        (m.text for m in said(memory) if (m.session, m.turn) == (call.session, call.turn)), ""
    )
    name, _, number = str(call.decision.get("router", "")).rpartition("@")
    router = Versions(memory, name).load(int(number)) if name else Router.auto()
    begun = min(
        (one for one in calls if (one.session, one.turn) == (call.session, call.turn)),
        key=lambda one: one.id,
    )
    tiers = Book([one for one in calls if one.purpose == "act"] or calls).tiers(begun)
    decision = dict(call.decision)
    fresh = router.route(Book(calls).step(text, begun), tiers)
    for part in ("probabilities", "chances", "costs"):
        decision.setdefault(part, getattr(fresh, part))
    features = _features(router, text, str(decision.get("kind", fresh.kind)))
    outcome = f"{call.outcome}, {dollars(call.cost)}, {call.latency_s:.2f} s"
    return Explained(_title(call), text, decision, call.tier, tiers, *features, outcome=outcome)


def show(found: Explained, *, as_json: bool) -> None:
    """Print an explanation for people, or as JSON."""
    if as_json:
        print_json(_told(found))
        return
    out, decision = console(), found.decision
    if found.title:
        out.print(found.title, markup=False, style="bold")
        out.print(f"“{' '.join(found.text.split())[:200]}”", markup=False, style="italic")
    if found.admission:
        out.print(found.admission, markup=False)
    by = f", {decision['router']}" if decision.get("router") else ""
    out.print(f"{found.tier} ({decision.get('stage')}{by}): {decision.get('reason')}", markup=False)
    if found.outcome:
        out.print(f"came to: {found.outcome}", markup=False)
    if decision.get("probabilities"):
        _show_kinds(decision["probabilities"])
    _show_tiers(found)
    _show_weights(f"what speaks for and against {decision.get('kind')}", found.features)
    if found.failing:
        _show_weights("what speaks for and against a failure of the cheap tier", found.failing)


def _features(router: Router, text: str, kind: str) -> tuple[list[Weight], list[Weight]]:
    from agentmesh.routing.spam import cues

    features: list[Weight] = []
    if router.classifier is not None and kind in router.classifier.labels:
        extra = cues(text, router.rules) if router.classifier.facts else None
        features = router.classifier.explain(text, kind, facts=extra)
    return features, router.passing.explain(text) if router.passing else []


def _title(call: Call) -> str:
    where = f"session {call.session}, turn {call.turn}, step {call.step}"
    return f"call {call.id} · {where} · {call.purpose} · {call.tier} ({call.model})"


def _show_kinds(probabilities: dict[str, float]) -> None:
    shown = table("kinds", "kind", "probability", "")
    for kind, share in sorted(probabilities.items(), key=lambda item: -item[1]):
        if share >= 0.005:
            shown.add_row(kind, f"{share:.1%}", _bar(share, "blue"))
    shown.columns[-1].justify = "left"
    console().print(shown)


def _show_tiers(found: Explained) -> None:
    chances, costs = found.decision.get("chances", {}), found.decision.get("costs", {})
    shown = table(
        "tiers (dollars per million tokens)",
        *("tier", "model", "input", "cached", "write", "output", "warm"),
        *("good enough", "rest of the session"),
    )
    for tier in found.tiers:
        p = tier.prices
        money = [f"{v:g}" for v in (p.input, p.read, p.write, p.output)] if p else ["?"] * 4
        row = [tier.model, *money, f"{tier.warm:,}"]
        row.append(f"{chances[tier.name]:.0%}" if tier.name in chances else "")
        row.append(f"${costs[tier.name]:.4f}" if tier.name in costs else "")
        chosen = tier.name == found.tier
        shown.add_row(
            f"{'→ ' if chosen else '  '}{tier.name}", *row, style="bold" if chosen else ""
        )
    console().print(shown)


def _show_weights(title: str, weights: Sequence[Weight]) -> None:
    shown = table(title, "feature", "log-odds", "")
    most = max((abs(one.weight) for one in weights), default=1.0)
    for one in weights:
        colour = "green" if one.weight > 0 else "red"
        bar = _bar(abs(one.weight) / most, colour)
        shown.add_row(plain(one.feature), f"{one.weight:+.2f}", bar)
    shown.columns[-1].justify = "left"
    console().print(shown)


def _told(found: Explained) -> dict[str, Any]:
    told = {
        "allowed": not found.admission.startswith("blocked"),
        "admission": found.admission,
        "call": found.title,
        "outcome": found.outcome,
        "tier": found.tier,
        **found.decision,
        "features": [one._asdict() for one in found.features],
        "failing": [one._asdict() for one in found.failing],
    }
    prices = {
        tier.name: {
            name: getattr(tier.prices, name) for name in ("input", "read", "write", "output")
        }
        for tier in found.tiers
        if tier.prices is not None
    }
    return {**told, "prices": prices}


def _bar(share: float, colour: str) -> str:
    return f"[{colour}]{'█' * max(1, round(share * BAR_CHARS))}[/]"
