"""`agentmesh demo [NAME]`."""

from __future__ import annotations

from typing import Annotated

import typer

from agentmesh.cli.output import console, print_json, progress

app = typer.Typer(add_completion=False)


@app.command()
def demo(
    name: Annotated[str, typer.Argument(help="Which example: support.")] = "support",
    requests: Annotated[int, typer.Option(min=1, help="Support requests in each design.")] = 240,
    seed: Annotated[int, typer.Option(help="Makes the shop and the traffic.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run an example offline and show what it costs under each design.

    The same traffic goes through a shop's support desk five times. Models are stand-ins made of
    rules; the calls are real, over HTTP with the vendors' SDKs, and every figure is from the
    emulator's bills and the shop's database.
    """
    from agentmesh.errors import ConfigError
    from agentmesh.examples.customer_support.demo import DESIGNS, run

    if name != "support":
        raise ConfigError(f"there is no demo {name!r}", hint="try: agentmesh demo support")
    with progress("support desk", 0, quiet=as_json) as show:
        report = run(
            DESIGNS,
            requests=requests,
            seed=seed,
            progress=lambda design, done, whole: show(done, whole, design),
        )
    if as_json:
        print_json(report.to_json())
    else:
        console().print(report.table())
