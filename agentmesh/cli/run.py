"""`agentmesh run PROGRAM [ARGUMENTS...]`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from agentmesh.errors import ConfigError

app = typer.Typer(add_completion=False)


@app.command(
    context_settings={
        "allow_extra_args": True,
        "allow_interspersed_args": False,
        "ignore_unknown_options": True,
    }
)
def run(
    context: typer.Context,
    program: Annotated[
        str, typer.Argument(help="A folder with a main.py, or an example's name: coding_agent.")
    ],
) -> None:
    """Run a program built with AgentMesh: an example, or a folder of your own with a main.py.

    Its `main(arguments)` is called with what follows, so `agentmesh run coding_agent --help`
    shows the program's own help.
    """
    status = _main(program)(context.args)
    raise typer.Exit(status if isinstance(status, int) else 0)


def _main(program: str) -> Any:
    """Return a program's `main`: of a module where one has that name, else of a folder's file."""
    path = Path(program)
    name = f"agentmesh.examples.{path.name}.main"
    own = importlib.util.find_spec("agentmesh.examples")
    shipped = (
        Path(own.submodule_search_locations[0]) if own and own.submodule_search_locations else None
    )
    if shipped and (path.name == program or path.resolve() == (shipped / path.name).resolve()):
        spec = _found(name)
    else:
        file = path / "main.py"
        spec = importlib.util.spec_from_file_location("program", file) if file.is_file() else None
    if spec is None or spec.loader is None:
        raise ConfigError(
            f"there is no program {program!r}",
            hint="give a folder with a main.py, customer_support or coding_agent",
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if not callable(getattr(module, "main", None)):
        raise ConfigError(f"{program!r} has no main()", hint="define main(arguments: list[str])")
    return module.main


def _found(name: str) -> Any:
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
