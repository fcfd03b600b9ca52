"""The command line: `agentmesh COMMAND`, or `python -m agentmesh`.

Exit status 0, 1 (failed) or 2 (wrong use). An error is one line with a hint; `--debug` shows the
traceback. A command's module is loaded when the command is used, so that `--help` is quick.
"""

from __future__ import annotations

import sys
from importlib import import_module

COMMANDS = {
    "demo": "Run an example offline and show what it costs under each design.",
    "run": "Run an example, or a program of your own.",
    "replay": "Replay recorded conversations through an agent and bill them.",
    "emulator": "Serve the emulated vendors on loopback.",
    "cost": "Show where the money went, and why the cache missed.",
    "audit": "Read chat logs and show what other designs had cost.",
    "memory": "Show, verify, export and erase what is remembered.",
    "route": "Train, evaluate and explain routers.",
    "distill": "Turn a flagship's work into a student, measured before it is promoted.",
}
"""Each command's module below `agentmesh.cli`, and its line in the help."""

FAILED, WRONG_USE = 1, 2


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    if debug:
        given.remove("--debug")
    if not given or given[0] in ("--help", "-h"):
        sys.stdout.write(_help())
        sys.exit(0)
    if given[0] == "--version":
        from importlib.metadata import version

        sys.stdout.write(version("agentmesh-langgraph") + "\n")
        sys.exit(0)
    if given[0] not in COMMANDS:
        sys.exit(_failed(f"there is no command {given[0]!r}", "agentmesh --help", WRONG_USE))
    sys.exit(_run(given[0], given[1:], debug=debug))


def _run(command: str, given: list[str], *, debug: bool) -> int:
    import typer

    from agentmesh.errors import AgentmeshError, ConfigError, InputError

    # ClickException, of whichever click this typer brings.
    usage_error: type[Exception] = typer.BadParameter.__mro__[2]
    app = import_module(f"agentmesh.cli.{command}").app
    try:
        result = app(given, prog_name=f"agentmesh {command}", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except typer.Exit as exit_:
        return int(exit_.exit_code)
    except usage_error as error:
        return _failed(str(error), f"agentmesh {command} --help", WRONG_USE)
    except (KeyboardInterrupt, typer.Abort):
        return _failed("stopped", "", FAILED)
    except AgentmeshError as error:
        if debug:
            raise
        wrong_use = isinstance(error, ConfigError | InputError)
        return _failed(str(error), error.hint, WRONG_USE if wrong_use else FAILED)


def _failed(message: str, hint: str, status: int) -> int:
    line = " ".join(f"agentmesh: {message}{f' ({hint})' if hint else ''}".split())
    sys.stderr.write(line + "\n")
    return status


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {line}" for name, line in COMMANDS.items()]
    return "\n".join(
        [
            "Usage: agentmesh COMMAND [OPTIONS]",
            "",
            "Agents that use the right amount of intelligence at the right price.",
            "",
            "Commands:",
            *lines,
            "",
            "agentmesh COMMAND --help explains a command. --version shows the version,",
            "--debug an error's traceback.",
            "",
        ]
    )
