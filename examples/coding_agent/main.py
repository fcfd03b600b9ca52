"""The command: `python -m agentmesh.examples.coding_agent --repo PATH --task "..."`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from agentmesh.errors import AgentmeshError, ConfigError, InputError
from agentmesh.examples.coding_agent.solve import (
    SAMPLE_TESTS,
    TASK,
    Item,
    Outcome,
    ask,
    sample,
    solve,
    undo,
)

if TYPE_CHECKING:
    from agentmesh import Tier

PROGRAM = "coding_agent"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 if the tests pass in the end, 1 if not, 2 for wrong use."""
    given = _parser().parse_args(arguments)
    try:
        with _ended_politely():
            status = _run(given)
    except AgentmeshError as error:
        hint = f" ({error.hint})" if error.hint else ""
        sys.stderr.write(f"{PROGRAM}: {error}{hint}\n")
        status = 2 if isinstance(error, ConfigError | InputError) else 1
    except KeyboardInterrupt:
        sys.stderr.write(f"{PROGRAM}: stopped\n")
        status = 1
    sys.exit(status)


@contextmanager
def _ended_politely() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C, so that the work tree is put away then, too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="A coding agent: a task in, a patch and its test result out. Without --repo "
        "it repairs a small broken repository; without --flagship its models are stand-ins made "
        "of rules. The repository's files stay as they are until --accept.",
    )
    parser.add_argument("--repo", type=Path, help="the git repository to work on")
    parser.add_argument("--task", default=TASK, help="what is to be done")
    parser.add_argument("--tests", default="", help="the command that runs the tests")
    parser.add_argument("--student", help="the model that looks, such as anthropic:NAME")
    parser.add_argument("--flagship", help="the model that edits, such as openai:NAME")
    parser.add_argument("--base-url", help="a proxy or gateway in the vendor's place")
    parser.add_argument("--accept", action="store_true", help="apply the patch if the tests pass")
    parser.add_argument("--undo", action="store_true", help="take the last accepted patch back")
    parser.add_argument(
        "--unconfined", action="store_true", help="approve commands where nothing confines them"
    )
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    return parser


def _run(given: argparse.Namespace) -> int:
    if given.undo:
        if given.repo is None:
            raise ConfigError("--undo needs --repo", hint="name the repository")
        print(f"taken back: {undo(given.repo)}")  # noqa: T201
        return 0
    with ExitStack() as stack:
        own = given.repo is None
        repo = stack.enter_context(sample()) if own else given.repo
        trusted = own or given.unconfined
        outcome = solve(
            repo,
            given.task,
            tests=given.tests or (SAMPLE_TESTS if own else ""),
            tiers=_tiers(given),
            accept=given.accept,
            show=lambda line: print(  # as it happens, also into a pipe
                line, file=sys.stderr if given.json else sys.stdout, flush=True
            ),
            approve=(lambda request: True) if trusted else ask,
        )
    told = {**asdict(outcome), "usd": outcome.usd}
    print(json.dumps(told, indent=2) if given.json else _told(outcome, own=own))  # noqa: T201
    return 0 if outcome.solved else 1


def _tiers(given: argparse.Namespace) -> list[Tier]:
    """Return the models that were named; none means the stand-ins."""
    from agentmesh import Tier

    if given.student and not given.flagship:
        raise ConfigError("--student needs --flagship", hint="name the model that edits, too")
    named = [("student", given.student), ("flagship", given.flagship)]
    return [Tier(name, model, base_url=given.base_url) for name, model in named if model]


def _told(outcome: Outcome, *, own: bool) -> str:
    """Return what came of it: the patch, the tests, the bill, and how to go on."""
    end = "applied to the repository; --undo takes it back"
    if own:
        end = "of a copy that is gone now; --repo PATH works on a repository of yours"
    elif not outcome.accepted:
        end = "not applied; the same command with --accept applies it"
    refused = f", {outcome.refused} drafts refused" if outcome.refused else ""
    heading = f"{'':10}{'steps':>6}{'tokens in':>12}{'from cache':>12}{'out':>8}{'dollars':>10}"
    return "\n".join(
        [
            "",
            outcome.patch or "no change",
            f"tests   {'pass' if outcome.solved else 'FAIL'}: {outcome.tests}",
            f"patch   {end if outcome.patch else 'empty'}",
            f"ran in  {outcome.confinement}{refused}",
            f"bill    {heading}",
            *(f"        {_row(item)}" for item in outcome.bill),
            f"        {'together':48}{_usd(outcome.usd):>10}",
        ]
    )


def _row(item: Item) -> str:
    share = item.cached / item.tokens_in if item.tokens_in else 0.0
    return (
        f"{item.tier:10}{item.steps:6}{item.tokens_in:12,}{share:12.0%}{item.tokens_out:8,}"
        f"{_usd(item.usd):>10}"
    )


def _usd(usd: float | None) -> str:
    return "?" if usd is None else f"{usd:.4f}"
