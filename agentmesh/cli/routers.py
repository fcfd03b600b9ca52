"""`agentmesh route` on a database: status, review, replay, versions, and training on its ledger."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentmesh.cli.database import opened
from agentmesh.cli.output import console, print_json
from agentmesh.cli.routers_shown import (
    show_blocked,
    show_learned,
    show_pardon,
    show_replay,
    show_status,
    show_versions,
    status_told,
)
from agentmesh.errors import ConfigError, InputError

if TYPE_CHECKING:
    from agentmesh.memory import Memory
    from agentmesh.routers import Verifiers, Versions
    from agentmesh.routing import Router


def _me() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


Database = Annotated[str, typer.Argument(help="A database file or its URL.")]
Tenant = Annotated[str, typer.Option(help="Whose data.")]
Name = Annotated[str, typer.Option(help="Which router.")]
Model = Annotated[str, typer.Option("--name", help="Which router; or verifier.")]
By = Annotated[
    str,
    typer.Option(default_factory=_me, show_default="your login name", help="Who does it."),
]
Why = Annotated[str, typer.Option(help="For what reason; the audit trail keeps it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def status(
    database: Database,
    *,
    hours: Annotated[float, typer.Option(help="Look back so far.")] = 24.0,
    name: Name = "router",
    tenant: Tenant = "default",
    as_json: Json = False,
) -> None:
    """Show every model's health, every tier's share, and what the live versions rest on."""
    from agentmesh.routers import status

    if not hours > 0:
        raise ConfigError(f"hours={hours!r}", hint="give a number above 0")
    with opened(database, tenant) as memory:
        found = status(memory, name=name, hours=hours)
    if as_json:
        print_json(status_told(found))
    else:
        show_status(found, hours)


def review(
    database: Database,
    message: Annotated[str | None, typer.Argument(help="A message, SESSION:TURN.")] = None,
    label: Annotated[str | None, typer.Argument(help="What it really was: a kind.")] = None,
    *,
    by: By,
    everything: Annotated[bool, typer.Option("--all", help="List reviewed ones, too.")] = False,
    why: Why = "",
    name: Name = "router",
    tenant: Tenant = "default",
    as_json: Json = False,
) -> None:
    """List the blocked messages, or say what one really was: a request kind lets it in."""
    from agentmesh.routers import said, settle

    with opened(database, tenant) as memory:
        if message is None:
            found = [one for one in said(memory) if one.blocked and (everything or not one.label)]
            show_blocked(found, as_json=as_json)
            return
        if label is None:
            raise InputError(
                f"what was {message!r}?", hint="a request kind such as simple, or spam"
            )
        done = settle(memory, message, label, by=by, why=why, name=name)
    show_pardon(done, as_json=as_json)


def replay(
    database: Database,
    *,
    router: Annotated[
        str, typer.Option(help="A version's number, a saved file, or auto.")
    ] = "auto",
    agent: Annotated[str, typer.Option(help="Only this agent's turns.")] = "",
    most: Annotated[int, typer.Option(help="List so many of the turns that would change.")] = 10,
    name: Name = "router",
    tenant: Tenant = "default",
    as_json: Json = False,
) -> None:
    """Run another router over the recorded turns: what it had chosen, and about what that costs."""
    from agentmesh.routers import replay

    with opened(database, tenant) as memory:
        found = replay(memory, _named(memory, name, router), agent=agent)
    if as_json:
        print_json(found._asdict() | {"changes": [one._asdict() for one in found.changes]})
    else:
        show_replay(found, router, most)


def versions(
    database: Database, *, name: Model = "router", tenant: Tenant = "default", as_json: Json = False
) -> None:
    """List the versions of a router, or of a verifier: who did what to each, when and why."""
    with opened(database, tenant) as memory:
        found = _stored(memory, name).all()
    if as_json:
        print_json([asdict(one) for one in found])
        return
    show_versions(found, name)


def activate(
    database: Database,
    version: Annotated[int, typer.Argument(help="Its number.")],
    *,
    by: By,
    why: Why,
    name: Model = "router",
    tenant: Tenant = "default",
) -> None:
    """Make a version the live one, if it was measured to be better than what it must beat."""
    with opened(database, tenant) as memory:
        done = _stored(memory, name).activate(version, by=by, why=why)
    console().print(f"{done.label} is live")


def save(
    database: Database,
    file: Annotated[Path, typer.Argument(help="A router's file, or with --name a verifier's.")],
    *,
    by: By,
    why: Why,
    name: Model = "router",
    tenant: Tenant = "default",
) -> None:
    """Store a router's file as a new version, to be activated later."""
    with opened(database, tenant) as memory:
        done = _stored(memory, name).save_file(file, by=by, why=why)
    console().print(f"{done.label} is saved")


def rollback(
    database: Database,
    *,
    by: By,
    why: Why,
    name: Model = "router",
    tenant: Tenant = "default",
) -> None:
    """Retire the live version; the one before it is live again."""
    with opened(database, tenant) as memory:
        stored = _stored(memory, name)
        done = stored.rollback(by=by, why=why)
    console().print(f"{done.label if done else stored.without} is live")


def learn(
    database: Database,
    *,
    by: By,
    tier: Annotated[str, typer.Option(help="The cheap tier; found from escalations.")] = "",
    agent: Annotated[str, typer.Option(help="Only this agent's turns.")] = "",
    alpha: Annotated[
        float | None, typer.Option(help="Contract: so many additional failures at most.")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of the contract.")] = 0.9,
    least: Annotated[int, typer.Option(help="New labels that a run needs.")] = 50,
    name: Name = "router",
    tenant: Tenant = "default",
    as_json: Json = False,
) -> None:
    """Learn a router and a verifier from a ledger; what is proven better goes live. For cron."""
    from agentmesh.routers import beside, train, train_verifier

    with opened(database, tenant) as memory:
        run = train(
            memory,
            name=name,
            tier=tier,
            agent=agent,
            alpha=alpha,
            confidence=confidence,
            least=least,
            by=by,
        )
        other = train_verifier(
            memory, name=beside(name), tier=tier, agent=agent, least=least, by=by
        )
    show_learned(run, other, as_json=as_json)


def _named(memory: Memory, name: str, router: str) -> Router:
    from agentmesh.routers import Versions
    from agentmesh.routing import Router

    if router == "auto":
        return Router.auto()
    if router.isdigit():
        return Versions(memory, name).load(int(router))
    return Router.load(router)


def _stored(memory: Memory, name: str) -> Versions | Verifiers:
    """Return the versions of what goes by a name: a verifier's ends with `verifier`."""
    from agentmesh.routers import Verifiers, Versions

    return (Verifiers if name.endswith(Verifiers.kind) else Versions)(memory, name)


def register(app: typer.Typer) -> None:
    """Add these commands to `agentmesh route`."""
    for command in (status, review, replay, versions, activate, save, rollback, learn):
        app.command()(command)
