"""`agentmesh route`: train, evaluate, explain, watch and replace routers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentmesh.cli.database import opened
from agentmesh.cli.output import console, print_json, table
from agentmesh.cli.routers import register
from agentmesh.errors import ConfigError

if TYPE_CHECKING:
    from agentmesh.routing import Example, Interval, Router

app = typer.Typer(no_args_is_help=True, help="Train, evaluate, explain, watch and replace routers.")

Saved = Annotated[
    Path | None, typer.Option("--router", help="A saved router; without it the shipped one.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def train(
    examples: Annotated[Path, typer.Argument(help='JSON lines of {"text", "label", "group"}.')],
    out: Annotated[Path, typer.Option("--out", help="Where the router is saved.")],
    *,
    shipped: Annotated[bool, typer.Option(help="Learn from the shipped examples as well.")] = True,
    false_alarms: Annotated[float, typer.Option(help="Bound on harmless messages blocked.")] = 0.01,
    as_json: Json = False,
) -> None:
    """Train a router on your own examples, and save it if it is better than chance."""
    from agentmesh.routing import Router, read_examples, seeds, split

    own = read_examples(examples)
    parts = split([r.text for r in own], groups=[r.group for r in own])
    learned = [own[i] for i in parts.train] + (seeds() if shipped else [])
    tested = [own[i] for i in parts.test]
    known = {row.text for row in learned}
    fresh = [row for row in tested if row.text not in known]
    if not fresh:
        raise ConfigError("every test row is a shipped example", hint="give examples of your own")
    found, chance = _accuracy(Router.train(learned, false_alarm_rate=false_alarms), fresh)
    if found.low <= chance:
        raise ConfigError(
            f"not saved: right on {found.value:.0%} of {len(fresh)} rows kept aside (at least "
            f"{found.low:.0%}), always guessing the commonest kind on {chance:.0%}",
            hint="add examples, or check their labels",
        )
    router = Router.train(own + (seeds() if shipped else []), false_alarm_rate=false_alarms)
    router.save(out)
    report = {
        "saved": str(out),
        "rows": len(own),
        "held_out": len(fresh),
        "accuracy": found._asdict(),
        "commonest_kind": chance,
        "spam_false_alarms_at_most": router.spam.bound if router.spam else None,
    }
    if as_json:
        print_json(report)
        return
    console().print(
        f"saved {out}: right on {found.value:.0%} [{found.low:.0%}, {found.high:.0%}] of "
        f"{len(fresh)} rows kept aside; the commonest kind alone {chance:.0%}"
    )


@app.command("eval")
def evaluate(
    rows: Annotated[
        Path, typer.Argument(help='JSON lines of {"text", "label"} or {"text", "weak", "strong"}.')
    ],
    router: Saved = None,
    *,
    as_json: Json = False,
) -> None:
    """Measure a router on labelled requests, or uplift on two tiers' results, against chance."""
    from agentmesh.routing import read_examples

    first = next((line for line in _lines(rows) if line.strip()), "")
    figures = (
        _two_tiers(rows) if '"weak"' in first else _kinds(_router(router), read_examples(rows))
    )
    if as_json:
        print_json(figures)
        return
    shown = table(str(rows), "measure", "figure", "95% interval")
    for name, figure in figures.items():
        interval = f"{figure['low']:.3f} to {figure['high']:.3f}" if "low" in figure else ""
        shown.add_row(name, f"{figure['value']:.3f}", interval)
    console().print(shown)


@app.command()
def explain(
    what: Annotated[str, typer.Argument(help="A request, or with --db a call's number.")],
    router: Saved = None,
    *,
    db: Annotated[str | None, typer.Option(help="A database: explain a call of it.")] = None,
    tenant: Annotated[str, typer.Option(help="Whose data.")] = "default",
    tiers: Annotated[
        str, typer.Option(help="Names, cheapest first.")
    ] = "student,standard,flagship",
    as_json: Json = False,
) -> None:
    """Show why a request, or a recorded call, goes to its tier: stage, words, prices, costs."""
    from agentmesh.cli import explained
    from agentmesh.routing import TierFacts

    if db is not None:
        with opened(db, tenant) as memory:
            found = explained.of_call(memory, what)
    else:
        names = [name.strip() for name in tiers.split(",") if name.strip()]
        facts = [TierFacts(name, name, i) for i, name in enumerate(names)]
        found = explained.of_text(_router(router), what, facts)
    explained.show(found, as_json=as_json)


register(app)


def _router(path: Path | None) -> Router:
    from agentmesh.routing import Router

    return Router.auto() if path is None else Router.load(path)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the rows {str(path)!r} cannot be read: {error}", hint="give a file of JSON lines"
        ) from error


def _accuracy(router: Router, rows: list[Example]) -> tuple[Interval, float]:
    """Return the share of rows whose kind is right, and that of the commonest kind."""
    import numpy as np

    from agentmesh.routing import Step, TierFacts, bootstrap

    tier = [TierFacts("any", "any", 0)]
    right = np.array([router.route(Step(r.text), tier).kind == r.label for r in rows])
    labels = [row.label for row in rows]
    chance = max(labels.count(label) for label in set(labels)) / len(labels)
    return bootstrap(lambda i: float(right[i].mean()), len(rows)), chance


def _kinds(router: Router, rows: list[Example]) -> dict[str, dict[str, float]]:
    found, chance = _accuracy(router, rows)
    harmless = [row for row in rows if row.label != "spam"]
    spam = [row for row in rows if row.label == "spam"]
    figures = {"accuracy": found._asdict(), "commonest kind": {"value": chance}}
    for name, part in (("harmless blocked", harmless), ("spam blocked", spam)):
        if part:
            blocked = sum(not router.admit(row.text).allowed for row in part)
            figures[name] = {"value": blocked / len(part)}
    return figures


def _two_tiers(path: Path) -> dict[str, dict[str, float]]:
    """Return uplift's figures out of fold, beside random, the single tiers and the oracle."""
    import numpy as np

    from agentmesh.routing import UpliftModel, better_than_random, bootstrap, curve, oracle

    rows: list[dict[str, Any]] = []
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            rows.append({"text": str(row["text"]), "weak": row["weak"], "strong": row["strong"]})
            rows[-1]["group"] = str(row.get("group") or number)
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path}:{number}: not a row ({error!r})", hint="it needs text, weak and strong"
            ) from error
    weak, strong = (np.array([bool(row[k]) for row in rows]) for k in ("weak", "strong"))
    groups = [row["group"] for row in rows]
    fitted = UpliftModel.cross_fit(
        [row["text"] for row in rows], weak.tolist(), strong.tolist(), groups=groups
    )
    scores = fitted.scores
    area = bootstrap(lambda i: curve(scores[i], weak[i], strong[i]).apgr, len(rows), groups=groups)
    above = better_than_random(scores, weak, strong, groups=groups)
    return {
        "APGR (random 0.5)": area._asdict(),
        "above matched random": above._asdict(),
        "strong calls for half the gap": {"value": curve(scores, weak, strong).calls_for(0.5)},
        "always weak: right": {"value": float(weak.mean())},
        "always strong: right": {"value": float(strong.mean())},
        "oracle: right": {"value": float((weak | strong).mean())},
        "oracle: APGR": {"value": oracle(weak, strong).apgr},
    }
