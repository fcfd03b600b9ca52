"""`agentmesh distill`: from a flagship's calls to a student that is measured, promoted, watched."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentmesh.cli.output import console, print_json, progress, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentmesh.distill.selection import Policy
    from agentmesh.distill.version import Version
    from agentmesh.memory import Memory

app = typer.Typer(
    no_args_is_help=True,
    help="Turn a flagship's work into a student, measured before it is promoted.",
    rich_markup_mode=None,
    add_completion=False,
)

Db = Annotated[str, typer.Option("--db", help="The memory's database URL.")]
Tenant = Annotated[str, typer.Option(help="Whose data.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
PerAction = Annotated[
    int | None, typer.Option(help="At most so many calls of one kind and action.")
]
Feedback = Annotated[bool, typer.Option(help="Leave out turns of which nobody said how they went.")]
By = Annotated[str, typer.Option(help="Who does it, for the audit trail.")]
Why = Annotated[str, typer.Option(help="The reason, for the audit trail.")]
Number = Annotated[
    int | None, typer.Option("--version", help="Which version; the newest if left out.")
]
Permission = Annotated[
    str, typer.Option(help="Who allowed training on these answers, and where, if terms do not.")
]
Near = Annotated[
    bool, typer.Option(help="Keep requests that resemble each other in one part of the split.")
]
Kind = Annotated[str, typer.Option(help="classifier, language-model or hosted.")]
Base = Annotated[str, typer.Option(help="The base model's name or folder; a classifier has none.")]
Method = Annotated[str, typer.Option(help="Of a language model: full, lora or prefix.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the data; a classifier has none.")]
Rate = Annotated[float | None, typer.Option(help="Of a language model's learning.")]
Batch = Annotated[int, typer.Option(help="Rows per step of a language model.")]
BaseUrl = Annotated[
    str | None, typer.Option(help="Where a hosted student is trained; key: OPENAI_API_KEY.")
]
Poll = Annotated[float, typer.Option(help="Seconds between looks at a hosted training.")]
Agreement = Annotated[float, typer.Option(help="With the teacher, on the steps that it answers.")]


@app.command()
def select(
    db: Db,
    tenant: Tenant = "default",
    per_action: PerAction = None,
    needs_feedback: Feedback = False,
    as_json: Json = False,
) -> None:
    """Show which calls are worth learning from, and why the others are not."""
    from agentmesh.distill import select as choose

    reasons: Counter[tuple[bool, str]] = Counter()
    with _memory(db, tenant) as memory, progress("reading calls", 1, quiet=as_json) as show:
        source = _reader(memory, show)
        for choice in choose(source, _policy(per_action, needs_feedback)):
            reasons[choice.kept, choice.reason] += 1
    rows = [{"kept": kept, "reason": why, "calls": n} for (kept, why), n in reasons.most_common()]
    if as_json:
        print_json(rows)
        return
    made = table("Calls to learn from", "reason", "kept", "calls")
    for row in rows:
        made.add_row(str(row["reason"]), "yes" if row["kept"] else "no", f"{row['calls']:,}")
    console().print(made)


@app.command()
def export(
    out: Annotated[str, typer.Argument(help="The training file to write.")],
    db: Db,
    tenant: Tenant = "default",
    format: Annotated[str, typer.Option(help="openai, huggingface or sharegpt.")] = "openai",
    student: Annotated[
        str, typer.Option(help="What will be trained: classifier, language-model or hosted.")
    ] = "language-model",
    permission: Permission = "",
    redact_key: Annotated[
        str,
        typer.Option(envvar="AGENTMESH_REDACT_KEY", help="Replace personal data under this key."),
    ] = "",
    names: Annotated[list[str] | None, typer.Option("--name", help="A name to replace.")] = None,
    per_action: PerAction = None,
    needs_feedback: Feedback = False,
    as_json: Json = False,
) -> None:
    """Write a training file of the chosen calls, if the teachers' terms allow it."""
    from agentmesh.distill import Redactor, check_terms, to_examples
    from agentmesh.distill import export as write
    from agentmesh.distill import select as choose

    policy = _policy(per_action, needs_feedback)
    redactor = Redactor(redact_key, names=names or ()) if redact_key else None
    reasons: Counter[str] = Counter()
    with _memory(db, tenant) as memory, progress("reading calls", 1, quiet=as_json) as show:
        source = _reader(memory, show)
        teachers = {call.model for call in _taught(memory, policy)}
        ruling = check_terms(teachers, student, permission=permission)  # type: ignore[arg-type]  # it checks
        redacted = (
            source if redactor is None else (lambda: (redactor.trace(trace) for trace in source()))
        )
        manifest = write(
            out,
            to_examples(choose(redacted, policy), reasons),
            format=format,  # type: ignore[arg-type]  # it checks
            terms=ruling,
            redacted=redactor is not None,
            reasons=reasons,
        )
    if as_json:
        print_json(asdict(manifest))
    else:
        console().print(
            f"{manifest.learned:,} answers in {manifest.rows:,} rows written to {out}",
            soft_wrap=True,
        )


@app.command()
def train(
    out: Annotated[str, typer.Argument(help="The folder for the student.")],
    db: Db,
    name: Annotated[str, typer.Option(help="The student's name.")] = "student",
    tenant: Tenant = "default",
    agreement: Agreement = 0.95,
    student: Kind = "classifier",
    base: Base = "",
    method: Method = "lora",
    epochs: Epochs = None,
    rate: Rate = None,
    batch: Batch = 4,
    base_url: BaseUrl = None,
    poll: Poll = 20.0,
    permission: Permission = "",
    near: Near = True,
    per_action: PerAction = None,
    needs_feedback: Feedback = False,
    by: By = "",
    as_json: Json = False,
) -> None:
    """Train a student and register it as a candidate, measured on held-out conversations.

    A hosted training that was interrupted goes on with its job when the command is run again.
    """
    _distil(locals(), promote=False)


@app.command()
def run(
    out: Annotated[str, typer.Argument(help="The folder for the student.")],
    db: Annotated[
        str, typer.Option(help="The memory's database URL; without it the support desk's example.")
    ] = "",
    name: Annotated[str, typer.Option(help="The student's name.")] = "student",
    tenant: Tenant = "default",
    agreement: Annotated[
        float | None,
        typer.Option(
            help="With the teacher, on the steps that it answers; 0.95 if left out, in the example"
            " more."
        ),
    ] = None,
    student: Kind = "classifier",
    base: Base = "",
    method: Method = "lora",
    epochs: Epochs = None,
    rate: Rate = None,
    batch: Batch = 4,
    base_url: BaseUrl = None,
    poll: Poll = 20.0,
    permission: Permission = "",
    near: Near = True,
    per_action: PerAction = None,
    needs_feedback: Feedback = False,
    by: By = "",
    requests: Annotated[int, typer.Option(help="Of the example: how many teach.")] = 1_000,
    as_json: Json = False,
) -> None:
    """Do the whole loop: select, split, train, measure, register, and begin the shadow.

    Without --db it is shown on the support desk's example, offline, from the first request to
    the rollback; the report is written to OUT. Exit status 1 where the student is not promoted.
    """
    if db:
        _distil({**locals(), "agreement": 0.95 if agreement is None else agreement}, promote=True)
    else:
        _prove(out, requests, agreement, as_json)


@app.command("eval")
def evaluate(
    baseline: Annotated[str, typer.Argument(help="Conversations of what is in use (JSON lines).")],
    candidate: Annotated[str, typer.Argument(help="Conversations of the candidate.")],
    margin: Annotated[float, typer.Option(help="How much lower its reward may be.")] = 0.05,
    blocking: Annotated[bool, typer.Option(help="Refuse a candidate that has a flag.")] = False,
    markdown: Annotated[str | None, typer.Option(help="Write the report as Markdown.")] = None,
    html: Annotated[str | None, typer.Option(help="Write the report as a page.")] = None,
    as_json: Json = False,
) -> None:
    """Compare two sets of recorded conversations; exit status 1 where it is not promoted."""
    from pathlib import Path

    from agentmesh.distill import read_rows, report
    from agentmesh.distill.evaluate import compare, run_of
    from agentmesh.errors import ConfigError

    ours, theirs = ([run_of(row) for row in read_rows(path)] for path in (baseline, candidate))
    found = compare(ours, theirs, margin=margin, blocking=blocking)
    for path, write in ((markdown, report.markdown), (html, report.page)):
        if path:
            try:
                Path(path).write_text(write(found), encoding="utf-8")
            except OSError as error:
                raise ConfigError(f"{path!r} cannot be written: {error.strerror}") from error
    if as_json:
        print_json(found.to_json())
    else:
        console().print(report.table(found))
    if not found.promoted:
        raise typer.Exit(1)


@app.command()
def promote(
    name: Annotated[str, typer.Argument(help="The student.")],
    db: Db,
    tenant: Tenant = "default",
    version: Number = None,
    by: By = "",
    why: Why = "by hand",
    as_json: Json = False,
) -> None:
    """Move a version to its next state: shadow, canary, live."""
    from agentmesh.distill.lifecycle import Register

    with _memory(db, tenant) as memory:
        _show([Register(memory).promote(name, version, by=by, why=why)], as_json)


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="The student.")],
    db: Db,
    tenant: Tenant = "default",
    by: By = "",
    why: Why = "by hand",
    as_json: Json = False,
) -> None:
    """Retire the canary, or else what is live; what was live before is live again."""
    from agentmesh.distill.lifecycle import Register

    with _memory(db, tenant) as memory:
        register = Register(memory)
        register.rollback(name, by=by, why=why)
        _show(register.versions(name), as_json)


@app.command()
def status(
    db: Db,
    name: Annotated[str | None, typer.Argument(help="The student; all if left out.")] = None,
    tenant: Tenant = "default",
    as_json: Json = False,
) -> None:
    """Show the students, their states, and their audit trails (with --json)."""
    from agentmesh.distill.lifecycle import Register

    with _memory(db, tenant) as memory:
        _show(Register(memory).versions(name), as_json)


def _distil(given: dict[str, Any], *, promote: bool) -> None:
    from agentmesh.cli.students import show_training, trainer_of
    from agentmesh.distill.clusters import REWORDED
    from agentmesh.distill.lifecycle import Register
    from agentmesh.distill.loop import distil
    from agentmesh.distill.version import unfit

    as_json, trainer = given["as_json"], trainer_of(given)
    with (
        _memory(given["db"], given["tenant"]) as memory,
        progress("reading calls", 1, quiet=as_json) as show,
    ):
        loop = distil(
            memory,
            given["out"],
            name=given["name"],
            trainer=trainer,
            policy=_policy(given["per_action"], given["needs_feedback"]),
            agreement=given["agreement"],
            permission=given["permission"],
            threshold=REWORDED if given["near"] else None,
            by=given["by"],
            stage=lambda what, done, total: show(done, total, what),
        )
        version = loop.version
        refused = unfit(version) if promote else ""
        if promote and not refused:
            version = Register(memory).promote(
                version.name, version.version, by=given["by"], why="run"
            )
    if as_json:
        print_json({**asdict(loop), "version": _told(version), "refused": refused})
        raise typer.Exit(int(bool(refused)))
    made = table(f"{version.name} version {version.version} is {version.state}", "measure", "value")
    made.add_row("conversations to learn from", f"{loop.parts.get('train', 0):,}")
    made.add_row("conversations held out", f"{loop.parts.get('test', 0):,}")
    made.add_row("held-out calls answered", f"{loop.held.answered:.1%}")
    made.add_row("agreement with the teacher there", f"{loop.held.agreement:.1%}")
    made.add_row("milliseconds per answer", f"{loop.held.latency_ms:.1f}")
    console().print(made)
    show_training(version.facts["trained"])
    if refused:
        console().print(f"Not promoted: {refused}.", soft_wrap=True)
        raise typer.Exit(1)


def _prove(out: str, requests: int, agreement: float | None, as_json: bool) -> None:
    from pathlib import Path

    from agentmesh.examples.customer_support.school import AGREEMENT, prove

    with progress("the flagship answers", 1, quiet=as_json) as show:
        proof = prove(
            Path(out),
            requests=requests,
            agreement=AGREEMENT if agreement is None else agreement,
            progress=lambda what, done, total: show(done, total, what),
        )
    report = Path(out) / "report.html"
    report.write_text(proof.page(), encoding="utf-8")
    rows = [phase.row() for phase in proof.phases]
    if as_json:
        told = {"phases": rows, "figures": proof.figures(), "version": _told(proof.version)}
        print_json({**told, "refused": proof.refused, "report": str(report)})
        raise typer.Exit(int(bool(proof.refused)))
    made = table("The life of a student at the support desk", *rows[0])
    for row in rows:
        made.add_row(*(_cell(value) for value in row.values()))
    console().print(made)
    measures = table("Measured", "measure", "value")
    for measure, value in proof.figures().items():
        measures.add_row(measure, _cell(value))
    console().print(measures)
    for event in proof.version.events:
        console().print(f"{event['from'] or 'new'} -> {event['to']}: {event['why']}")
    console().print(f"The report is in {report}", soft_wrap=True)
    if proof.refused:
        console().print(f"It did not get further: {proof.refused}.", soft_wrap=True)
        raise typer.Exit(1)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _show(versions: list[Version], as_json: bool) -> None:
    if as_json:
        print_json([_told(version) for version in versions])
        return
    made = table("Students", "name", "version", "state", "measured", "belief", "runs", "last move")
    for version in versions:
        watch = version.facts.get("watch") or {}
        belief = version.belief
        made.add_row(
            version.name,
            str(version.version),
            version.state,
            _share(version.facts.get("measured", {}).get("success")),
            _share(belief),
            str(watch.get("runs", 0)),
            version.events[-1]["why"],
        )
    console().print(made)


def _told(version: Version) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(json.dumps(asdict(version), default=dict))
    return {**told, "belief": version.belief}


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _policy(per_action: int | None, needs_feedback: bool) -> Policy:
    from agentmesh.distill import Policy

    return Policy(per_action=per_action, needs_feedback=needs_feedback)


def _reader(memory: Memory, show: Any) -> Any:
    from agentmesh.distill import read_traces

    verified = iter((False,))  # the first pass counts; what is chosen is verified
    return lambda: read_traces(
        memory,
        progress=lambda done, total: show(done, total),
        verify=next(verified, True),
    )


def _taught(memory: Memory, policy: Policy) -> Iterator[Any]:
    """Yield the calls whose tiers teach, from the ledger alone."""
    from sqlalchemy import select as query

    from agentmesh.memory.tables import calls

    rows = memory.database.read(
        lambda c: c.execute(
            query(calls.c.model, calls.c.tier)
            .where(calls.c.tenant == memory.tenant, calls.c.outcome == "ok")
            .distinct()
        ).all()
    )
    for row in rows:
        if row.tier in policy.tiers if policy.tiers else row.tier not in policy.students:
            yield row


@contextmanager
def _memory(db: str, tenant: str) -> Iterator[Memory]:
    """Open an existing memory; a file that is not there is not made."""
    from pathlib import Path

    from sqlalchemy.engine import make_url

    from agentmesh.errors import ConfigError
    from agentmesh.memory import Memory

    if db.startswith("sqlite:///"):
        file = make_url(db).database
        if file and not Path(file).exists():
            raise ConfigError(f"there is no database at {file!r}", hint="check --db")
    memory = Memory(db, tenant=tenant)
    try:
        yield memory
    finally:
        memory.close()
