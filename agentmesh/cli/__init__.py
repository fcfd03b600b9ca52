"""The command line: `agentmesh COMMAND`, or `python -m agentmesh`.

Exit status 0, 1 (failed) or 2 (wrong use). An error is one line with a hint; `--debug` shows the
traceback. A command's module is loaded when the command is used, so that `--help` is quick.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click
import typer

_COMMANDS = {
    "demo": ("demo", "Run an example offline and show what it cost under each design."),
    "replay": ("replay", "Replay recorded conversations through an agent and bill them."),
    "emulator": ("emulator", "Serve the emulated vendors on loopback."),
    "memory": ("memory", "Show, verify, export and erase what is remembered."),
    "route": ("route", "Train, evaluate and explain routers."),
}
"""The module below `agentmesh.cli` that holds a command, and its line in the help."""


class Commands(click.Group):
    """The commands, each loaded when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return a command; while the help is listed, a light stand-in with its help line."""
        if name not in _COMMANDS:
            return None
        module, line = _COMMANDS[name]
        if ctx.params.get("help_only") or ctx.resilient_parsing:
            return click.Command(name, help=line)
        app: typer.Typer = import_module(f"agentmesh.cli.{module}").app
        command = typer.main.get_command(app)
        command.name, command.short_help = name, line
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands into the help without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    if debug:
        given.remove("--debug")
    sys.exit(_run(given, debug=debug))


def _run(given: list[str], *, debug: bool) -> int:
    from agentmesh.errors import AgentmeshError, ConfigError, InputError

    try:
        result: Any = _group()(given, prog_name="agentmesh", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        hint = "see 'agentmesh --help'"
        print(f"agentmesh: {error.format_message()} ({hint})", file=sys.stderr)  # noqa: T201
        return 2
    except (KeyboardInterrupt, click.Abort):
        print("agentmesh: stopped", file=sys.stderr)  # noqa: T201
        return 1
    except AgentmeshError as error:
        if debug:
            raise
        hint = f" ({error.hint})" if error.hint else ""
        print(f"agentmesh: {error}{hint}", file=sys.stderr)  # noqa: T201
        return 2 if isinstance(error, ConfigError | InputError) else 1


def _group() -> Commands:
    help_ = "Agents that use the right amount of intelligence at the right price."
    group = Commands("agentmesh", help=help_, no_args_is_help=True)
    group.params.append(
        click.Option(
            ["--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_version,
            help="Show the version and exit.",
        )
    )
    return group


def _version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import version

        click.echo(version("agentmesh-langgraph"))
        ctx.exit()
