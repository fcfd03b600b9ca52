"""Talk to the support desk: on real models with a key, on stand-ins without one.

Only the tiers differ. `python -m agentmesh.examples.customer_support --help` tells the rest.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console

from agentmesh.errors import AgentmeshError, ConfigError, InputError
from agentmesh.examples.customer_support.shop import TODAY, Order, Shop, generate, write

if TYPE_CHECKING:
    from agentmesh import Agent, Reply, Tier


def tiers(
    environ: Mapping[str, str], *, base_url: str | None = None, model: str | None = None
) -> list[Tier]:
    """Return the tiers that the environment's keys and a server of one's own allow.

    Cheapest first; empty where there is neither.

    Raises:
        ConfigError: a server is named without its model, or a model without its server.
    """
    from agentmesh import Tier

    if bool(base_url) != bool(model):
        given, missing = ("--base-url", "--model") if base_url else ("--model", "--base-url")
        raise ConfigError(
            f"{given} is given without {missing}",
            hint="for example --base-url http://127.0.0.1:8000/v1 --model qwen3-8b",
        )
    found = []
    if base_url and model:
        key = environ.get("OPENAI_API_KEY") or "none"
        name = f"openai-compatible:{model}"
        found.append(Tier("student", name, base_url=base_url, api_key=key))
    if environ.get("ANTHROPIC_API_KEY"):
        found.append(Tier("standard", "anthropic:claude-haiku-4-5"))
        found.append(Tier("flagship", "anthropic:claude-opus-5-5"))
    elif environ.get("OPENAI_API_KEY") and not base_url:
        found.append(Tier("standard", "openai:gpt-6.1-terra"))
        found.append(Tier("flagship", "openai:gpt-6.1-sol"))
    return found


@contextmanager
def stand_ins() -> Iterator[list[Tier]]:
    """Serve the stand-in models on loopback and give their tiers."""
    from agentmesh import Tier
    from agentmesh.examples.customer_support.brains import BRAINS
    from agentmesh.examples.customer_support.demo import (
        FLAGSHIP,
        STANDARD,
        STUDENT,
        STUDENT_PRICE,
    )
    from agentmesh.testing import emulator

    with emulator(BRAINS) as server:
        student = Tier(
            "student",
            STUDENT,
            base_url=server.openai_url,
            api_key="emulator",
            price=STUDENT_PRICE,
        )
        yield [
            student,
            Tier("standard", STANDARD, base_url=server.url, api_key="emulator"),
            Tier("flagship", FLAGSHIP, base_url=server.url, api_key="emulator"),
        ]


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the arguments."""
        raise ConfigError(message, hint="see --help")


def _parser() -> _Parser:
    parser = _Parser(
        prog="python -m agentmesh.examples.customer_support",
        description=(
            "Ask the support desk of a made-up shop. With ANTHROPIC_API_KEY, OPENAI_API_KEY or "
            "--base-url it runs on real models, else on stand-ins made of rules."
        ),
    )
    parser.add_argument("text", nargs="?", help="what to ask; without it, a chat")
    parser.add_argument("--customer", help="whom to be, such as C-1001; else one with a parcel")
    parser.add_argument("--base-url", help="a server that speaks OpenAI's Chat Completions")
    parser.add_argument("--model", help="the model of that server")
    parser.add_argument("--folder", type=Path, help="keep shop and memory here; else nowhere")
    parser.add_argument("--offline", action="store_true", help="stand-ins even where a key is set")
    parser.add_argument("--seed", type=int, default=7, help="of the shop")
    return parser


def chat(given: argparse.Namespace) -> None:
    """Answer one text, or chat until the end of input."""
    console = Console(highlight=False)
    shop = generate(given.seed)
    user = _customer(shop, given.customer)
    with ExitStack() as stack:
        found = tiers(os.environ, base_url=given.base_url, model=given.model)
        if given.offline or not found:
            found = stack.enter_context(stand_ins())
            console.print("Stand-ins made of rules answer, no model.", style="dim")
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        agent = stack.enter_context(_agent(found, shop, folder))
        _introduce(console, shop, user)
        session = uuid.uuid4().hex
        if given.text is not None:
            _turn(console, agent, given.text, user, session)
            return
        while (said := _said(console)) is not None:
            _turn(console, agent, said, user, session)


@contextmanager
def _agent(found: Sequence[Tier], shop: Shop, folder: Path) -> Iterator[Agent]:
    """Open shop and memory in a folder and give the desk's agent."""
    from agentmesh.examples.customer_support.desk_agent import support_agent
    from agentmesh.examples.customer_support.tools import desk as open_desk

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the folder {str(folder)!r} cannot be made: {error.strerror}", hint="name another one"
        ) from error
    path = folder / "shop.db"
    url = f"sqlite:///{path}" if path.exists() else write(shop, path)
    now = datetime.combine(TODAY, time(16), UTC)
    with (
        closing(open_desk(url, clock=lambda: now)) as desk,
        support_agent(desk, found, memory=f"sqlite:///{folder / 'memory.db'}") as agent,
    ):
        yield agent


def _customer(shop: Shop, wanted: str | None) -> str:
    """Return whom to be: the wanted customer, or the first one with some open order."""
    if wanted is None:
        return next(order.customer_id for order in shop.orders if order.status == "shipped")
    if all(person.id != wanted for person in shop.customers):
        raise InputError(
            f"the shop has no customer {wanted!r}",
            hint=f"they go from {shop.customers[0].id} to {shop.customers[-1].id}",
        )
    return wanted


def _introduce(console: Console, shop: Shop, user: str) -> None:
    person = next(person for person in shop.customers if person.id == user)
    orders = [order for order in shop.orders if order.customer_id == user]
    shown = ", ".join(_shown(order) for order in orders) or "no orders"
    console.print(f"You are {person.name} ({person.id}) with {shown}.", style="dim")


def _shown(order: Order) -> str:
    return f"{order.id} ({order.status})"


def _said(console: Console) -> str | None:
    """Return the next thing that the customer says; None at the end."""
    while True:
        try:
            said = console.input("[bold]you:[/] ").strip()
        except (EOFError, KeyboardInterrupt):
            return None
        if said in ("exit", "quit"):
            return None
        if said:
            return said


def _turn(console: Console, agent: Agent, text: str, user: str, session: str) -> None:
    reply = agent.invoke(text, user=user, session=session)
    while reply.interrupts:
        answer = ask_person(console, reply)
        reply = agent.resume(answer, user=user, session=session)
    console.print("[bold]desk:[/] ", end="")
    console.print(reply.text, markup=False, soft_wrap=True)
    console.print(reply.summary(), style="dim", markup=False, soft_wrap=True)


def ask_person(console: Console, reply: Reply) -> dict[str, Any]:
    """Ask on the terminal whether what the desk wants to do may be done; no answer means no."""
    decisions: list[dict[str, Any]] = []
    for question in reply.interrupts:
        for action in question["action_requests"]:
            given = ", ".join(f"{key} {value}" for key, value in action["args"].items())
            console.print(f"The desk wants to {action['name']}: {given}.", style="yellow")
            try:
                yes = console.input("[bold]approve?[/] (y/N) ").strip().casefold()
            except EOFError:
                yes = ""
            if yes in ("y", "yes"):
                decisions.append({"type": "approve"})
            else:
                message = "Refused by a person: a colleague looks into the case."
                decisions.append({"type": "reject", "message": message})
    return {"decisions": decisions}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example and return its exit status; an error is one line with a hint."""
    try:
        chat(_parser().parse_args(arguments))
    except KeyboardInterrupt:
        return _failed("stopped", "", 1)
    except AgentmeshError as error:
        status = 2 if isinstance(error, ConfigError | InputError) else 1
        return _failed(str(error), error.hint, status)
    return 0


def _failed(message: str, hint: str, status: int) -> int:
    told = f"customer_support: {message}" + (f" ({hint})" if hint else "")
    print(told, file=sys.stderr)  # noqa: T201  # the program's own output
    return status
