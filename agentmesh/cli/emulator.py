"""`agentmesh emulator`."""

from __future__ import annotations

import signal
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentmesh.cli.output import console, dollars
from agentmesh.errors import ConfigError

if TYPE_CHECKING:
    from agentmesh.emulator import Bill, Brain

app = typer.Typer(add_completion=False)


@app.command()
def emulator(
    port: Annotated[int, typer.Option(help="0 takes any free port.")] = 8765,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    echo: Annotated[bool, typer.Option("--echo", help="Repeat what was said (default).")] = False,
    recording: Annotated[
        Path | None, typer.Option(help="Answer as these recorded conversations do: JSON lines.")
    ] = None,
    brain: Annotated[
        str | None, typer.Option(help="Answer with a Python function, MODULE:FUNCTION.")
    ] = None,
    prices: Annotated[Path | None, typer.Option(help="A JSON file of your own prices.")] = None,
    latency_s: Annotated[float, typer.Option(help="Seconds before each answer.")] = 0.0,
) -> None:
    """Serve the emulated vendors until Ctrl-C; then say what was charged.

    Any API key is taken. Bills are at GET /emulator/bills, and POST /emulator/reset forgets them.
    """
    from agentmesh.economy.prices import PriceBook
    from agentmesh.emulator import Emulator

    if sum((echo, recording is not None, brain is not None)) > 1:
        raise ConfigError(
            "--echo, --recording and --brain exclude each other", hint="give one of them"
        )
    book = PriceBook.from_file(prices) if prices else None
    server = Emulator(
        _brain(recording, brain), port=port, host=host, prices=book, latency_s=latency_s
    )
    with server:
        _serve(server.url, server.openai_url)
        bills = list(server.bills)
    _report(bills)


def _serve(url: str, openai_url: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job ignores the first
        signal.signal(number, signal.default_int_handler)
    out = sys.stdout
    out.write(f"Anthropic API at {url} · OpenAI APIs at {openai_url} · Ctrl-C stops\n")
    out.flush()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        out.write("\n")


def _brain(recording: Path | None, name: str | None) -> Brain:
    from agentmesh.emulator import Recordings, echo

    if recording is not None:
        return Recordings.from_file(recording)
    return echo if name is None else _load(name)


def _load(name: str) -> Brain:
    module, _, attribute = name.partition(":")
    hint = "give MODULE:FUNCTION of a module that can be imported from here"
    if not module or not attribute:
        raise ConfigError(f"--brain {name!r} names no function", hint=hint)
    sys.path.insert(0, "")
    try:
        found: Any = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"--brain {name!r} cannot be loaded: {error}", hint=hint) from error
    finally:
        sys.path.remove("")
    brain: Brain = found
    return brain


def _report(bills: list[Bill]) -> None:
    costs = [bill.cost_micro for bill in bills]
    known = sum(cost for cost in costs if cost is not None)
    unknown = costs.count(None)
    note = f", {unknown} of them at an unknown price" if unknown else ""
    console().print(f"{len(bills)} requests, {dollars(known)}{note}", highlight=False)
