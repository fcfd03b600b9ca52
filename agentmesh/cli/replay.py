"""`agentmesh replay FILE... --tools SCHEMAS`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentmesh.cli.output import console, dollars, print_json, progress, table

if TYPE_CHECKING:
    from rich.table import Table

    from agentmesh.replay import Replayed

app = typer.Typer(add_completion=False)


@app.command()
def replay(
    files: Annotated[list[Path], typer.Argument(help="Recorded conversations, JSON lines.")],
    tools: Annotated[Path, typer.Option(help="The tools' schemas, a JSON file.")],
    model: Annotated[
        str, typer.Option(help="Whose API and prices are used.")
    ] = "anthropic:claude-opus-5-5",
    interleaved: Annotated[int, typer.Option(min=1, help="Conversations side by side.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Replay recorded conversations through an agent and bill them.

    The customer's turns and the tools' results are those recorded; the recorded assistant answers
    as the emulator's brain, over HTTP on loopback. Every request must be the recorded one.
    """
    from agentmesh import replay as stage

    schemas = stage.read_tools(tools)
    read = [(path, stage.read(path)) for path in files]
    results = {}
    for path, conversations in read:
        with progress(f"replaying {path.name}", len(conversations), quiet=as_json) as done:
            results[path.name] = stage.replay(
                conversations, schemas, model=model, interleaved=interleaved, progress=done
            )
    results["all"] = stage.total(list(results.values()))
    if as_json:
        print_json({name: result.as_dict() for name, result in results.items()})
        return
    console().print(_shown(model, results))
    console().print(
        "Every recorded step was asked for with the recorded words and results, and every recorded"
        " tool call was made.",
        style="dim",
    )


def _shown(model: str, results: Mapping[str, Replayed]) -> Table:
    """Return a table with one column for each file, so that it fits a terminal."""
    shown = table(f"Replayed on {model}", "", *(Path(name).stem for name in results))
    all_ = results.values()
    for label, cells in (
        ("conversations", [f"{one.conversations:,}" for one in all_]),
        ("requests", [f"{one.requests:,}" for one in all_]),
        ("steps", [f"{one.steps:,}" for one in all_]),
        ("tool calls", [f"{one.tool_calls:,}" for one in all_]),
        ("tokens fresh", [f"{one.usage.fresh:,}" for one in all_]),
        ("tokens written", [f"{one.usage.write + one.usage.write_long:,}" for one in all_]),
        ("tokens read", [f"{one.usage.read:,}" for one in all_]),
        ("tokens out", [f"{one.usage.output:,}" for one in all_]),
        ("read from cache", [f"{one.read_share:.1%}" for one in all_]),
        ("escalated", [f"{one.escalated:,}" for one in all_]),
        ("blocked", [f"{one.blocked:,}" for one in all_]),
        ("dollars", [dollars(one.cost) for one in all_]),
        ("requests per dollar", [_figure(one.requests_per_usd, "{:,.0f}") for one in all_]),
        ("input bill / uncached", [_figure(one.input_ratio, "{:.4f}") for one in all_]),
    ):
        shown.add_row(label, *cells)
    return shown


def _figure(value: float | None, form: str) -> str:
    return "?" if value is None else form.format(value)
