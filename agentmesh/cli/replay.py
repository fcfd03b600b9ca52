"""`agentmesh replay FILE... --tools SCHEMAS`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentmesh.cli.output import console, dollars, print_json, progress, table

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
    columns = [
        "conversations",
        "requests",
        "steps",
        "calls",
        "fresh",
        "written",
        "read",
        "out",
        "cached",
    ]
    shown = table(f"Replayed on {model}", "file", *columns, "bill", "input/uncached")
    for name, one in results.items():
        used = one.usage
        shown.add_row(
            name,
            *(f"{n:,}" for n in (one.conversations, one.requests, one.steps, one.tool_calls)),
            *(f"{n:,}" for n in (used.fresh, used.write + used.write_long, used.read, used.output)),
            f"{one.read_share:.1%}",
            dollars(one.cost),
            "?" if one.input_ratio is None else f"{one.input_ratio:.4f}",
            end_section=name == list(results)[-2],
        )
    console().print(shown)
    console().print(
        "Every recorded step was asked for with the recorded words and results, and every recorded"
        " tool call was made.",
        style="dim",
    )
