"""`agentmesh memory`: show, verify, export, erase and import what is remembered."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentmesh.cli.database import opened
from agentmesh.cli.output import console, print_json, table
from agentmesh.errors import ConfigError, InputError

if TYPE_CHECKING:
    from agentmesh.memory import Memory
    from agentmesh.memory.buckets import Bucket

app = typer.Typer(add_completion=False, no_args_is_help=True)

Database = Annotated[str, typer.Argument(help="A database file or its URL.")]
Tenant = Annotated[str, typer.Option(help="Whose data.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

CHARS = 100


@app.command()
def show(
    database: Database,
    session: Annotated[str | None, typer.Argument(help="Show this session's log.")] = None,
    user: Annotated[str | None, typer.Option(help="Only this user's sessions.")] = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """List the sessions, or show what one session's models were shown."""
    rows: list[dict[str, Any]]
    with opened(database, tenant) as memory:
        if session is None:
            rows = [
                {"session": n, "entries": len(memory.history(n))} for n in memory.sessions(user)
            ]
        else:
            rows = [
                {"seq": e.seq, "turn": e.turn, "kind": e.kind, "tokens": e.tokens, "said": e.blocks}
                for e in memory.history(session).entries()
            ]
    if as_json:
        print_json(rows)
        return
    if session is None:
        made = table(f"{len(rows)} sessions", "session", "entries")
        for row in rows:
            made.add_row(_plain(row["session"]), f"{row['entries']:,}")
        console().print(made)
        return
    for row in rows:
        head = f"{row['seq']:>5}  turn {row['turn']:<4} {row['kind']:<10}"
        console().print(head + _plain(_short(row["said"])), highlight=False)


@app.command()
def items(
    database: Database,
    profile: Annotated[str | None, typer.Option(help="What is known of this user.")] = None,
    task: Annotated[str | None, typer.Option(help="What is known of this session's task.")] = None,
    org: Annotated[str | None, typer.Option(help="What is known of this organisation.")] = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Show the items of one bucket, and which of them cost most."""
    given = {"profile": profile, "task": task, "org": org}
    named = [(kind, owner) for kind, owner in given.items() if owner is not None]
    if len(named) != 1:
        raise ConfigError("show one bucket at a time", hint="give --profile, --task or --org")
    kind, owner = named[0]
    with opened(database, tenant) as memory:
        bucket: Bucket = getattr(memory, kind)(owner)
        held = bucket.items()
    if as_json:
        print_json([asdict(item) for item in held])
        return
    made = table(f"{kind} of {_plain(owner)}", "item", "tokens", "revision", "trust", "author")
    for item in sorted(held, key=lambda item: -item.tokens):
        made.add_row(
            _plain(item.line()[:CHARS]),
            f"{item.tokens:,}",
            f"{item.revision:,}",
            item.trust,
            _plain(item.author or item.source),
        )
    console().print(made)


@app.command()
def pending(
    database: Database,
    profile: Annotated[str | None, typer.Option(help="What waits to enter this Profile.")] = None,
    org: Annotated[str | None, typer.Option(help="What waits to enter this organisation.")] = None,
    session: Annotated[str | None, typer.Option(help="What this session's turns propose.")] = None,
    accept: Annotated[str | None, typer.Option(help="Let this item, by key or id, hold.")] = None,
    reject: Annotated[str | None, typer.Option(help="Reject this item, by key or id.")] = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Show what others than the user have said of them, and decide whether it shall hold."""
    if sum(name is not None for name in (profile, org, session)) != 1:
        raise ConfigError("look at one at a time", hint="give --profile, --org or --session")
    if accept is not None and reject is not None:
        raise ConfigError("decide on one item at a time", hint="give --accept or --reject")
    chosen = accept if accept is not None else reject
    with opened(database, tenant) as memory:
        if session is not None:
            rows = _proposed(memory, session, chosen, accept=accept is not None)
        else:
            bucket = memory.profile(profile) if profile is not None else memory.org(org or "")
            if chosen is not None:
                bucket.decide(chosen, accept=accept is not None)
            rows = [asdict(item) for item in bucket.pending()]
    if as_json:
        print_json(rows)
        return
    made = table(f"{len(rows)} pending", "item", "value", "said by")
    for row in rows:
        by = row.get("author") or row.get("source") or f"entry {row.get('evidence')}"
        made.add_row(_plain(str(row.get("id") or row["key"])), _plain(_value(row)), _plain(by))
    console().print(made)


def _proposed(
    memory: Memory, session: str, chosen: str | None, *, accept: bool
) -> list[dict[str, Any]]:
    from agentmesh.learning import decide, proposals

    if chosen is not None:
        if not chosen.isdigit():
            raise InputError(f"{chosen!r} is no proposal", hint="give its id, a number")
        decide(memory, session, int(chosen), accept=accept)
    return [one._asdict() for one in proposals(memory, session, outcome="pending")]


def _value(row: dict[str, Any]) -> str:
    said = f"{row['key']}: {json.dumps(row['value'], ensure_ascii=False)}"
    return said if len(said) <= CHARS else said[: CHARS - 1] + "…"


@app.command()
def verify(
    database: Database,
    session: Annotated[str | None, typer.Argument(help="Only this session.")] = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Check every log against its hashes, and rebuild every prompt that was ever sent."""
    with opened(database, tenant) as memory:
        checked = memory.verify(session)
    if as_json:
        print_json(asdict(checked))
        return
    console().print(
        f"{checked.sessions:,} sessions, {checked.entries:,} entries and {checked.calls:,} calls"
        " are as they were recorded."
    )


@app.command()
def export(
    database: Database,
    user: Annotated[str, typer.Argument(help="Whose data to export.")],
    out: Annotated[Path | None, typer.Option(help="Write it here and not to the screen.")] = None,
    tenant: Tenant = "default",
) -> None:
    """Write everything that is known of a user, as JSON."""
    with opened(database, tenant) as memory:
        known = memory.export(user)
    if out is None:
        print_json(known)
        return
    try:
        out.write_text(json.dumps(known, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{str(out)!r} cannot be written: {error.strerror}", hint="choose another --out"
        ) from error
    console().print(f"{len(known['sessions']):,} sessions of {_plain(user)}: {out}")


@app.command()
def erase(
    database: Database,
    user: Annotated[str | None, typer.Option(help="Erase this user.")] = None,
    session: Annotated[str | None, typer.Option(help="Erase this session.")] = None,
    whole: Annotated[bool, typer.Option("--tenant-too", help="Erase the whole tenant.")] = False,
    older: Annotated[float | None, typer.Option(help="Erase sessions unused for days.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Remove a user, a session, a tenant or what is old, for good, and print the receipt."""
    if sum((user is not None, session is not None, whole, older is not None)) != 1:
        raise ConfigError(
            "erase one thing at a time", hint="--user, --session, --tenant-too or --older DAYS"
        )
    if not yes:
        what = user or session or (f"tenant {tenant}" if whole else f"all unused for {older} days")
        typer.confirm(f"Erase {what!r} for good?", abort=True, err=True)
    with opened(database, tenant) as memory:
        if older is not None:
            receipt = memory.retain(older)
        else:
            receipt = memory.erase(user=user, session=session, tenant=tenant if whole else None)
    if as_json:
        print_json(asdict(receipt))
        return
    gone = ", ".join(f"{n:,} {name}" for name, n in receipt.counts.items() if n)
    console().print(f"Erased: {gone or 'nothing was there'}. Receipt {receipt.sha}")


@app.command(name="import")
def import_(
    database: Database,
    chats: Annotated[Path, typer.Argument(help="JSONL of OpenAI-style chats, one a line.")],
    user: Annotated[str, typer.Option(help="Whose they are, where a line does not say.")] = "",
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Make a session of each conversation in a file; all of them or none."""
    from agentmesh.memory.imports import read_chats

    read = read_chats(chats, user=user)
    with opened(database, tenant, new=True) as memory:
        made = memory.import_chats(read)
    if as_json:
        print_json(made)
    else:
        console().print(f"{len(made):,} sessions were imported.")


def _short(blocks: list[dict[str, Any]]) -> str:
    """Return blocks as one line."""
    parts = [str(b.get("text") or f"{b.get('name')}({b.get('arguments')})") for b in blocks]
    line = " ".join(" ".join(parts).split())
    return line if len(line) <= CHARS else line[: CHARS - 1] + "…"


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
