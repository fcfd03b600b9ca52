"""Tools of a real MCP server, a process that speaks over its standard input and output."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import BaseTool

from agentmesh.errors import ConfigError
from agentmesh.tools import McpServer, Result, arun_call, catalogue, declaration, run_call, spec

pytest.importorskip("langchain_mcp_adapters", reason="the extra `mcp` is not installed")

SERVER = Path(__file__).with_name("servers") / "notes.py"
Run = Callable[..., Result]


def _arun(*args: Any, **kwargs: Any) -> Result:
    return asyncio.run(arun_call(*args, **kwargs))


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    return run_call if request.param == "sync" else _arun


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "pids"


@pytest.fixture
def notes(log: Path) -> Iterator[McpServer]:
    with McpServer("notes", [sys.executable, str(SERVER), str(log)]) as server:
        yield server
    assert not [pid for pid in _pids(log) if _runs(pid)]


def _pids(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _named(tools: list[BaseTool], name: str) -> BaseTool:
    return next(tool for tool in tools if tool.name == name)


def test_tools_come_filtered_renamed_declared_and_in_one_order(notes: McpServer) -> None:
    tools = notes.tools(
        only=["write", "search"],
        rename={"search": "find_note"},
        each={"search": {"side_effect": "none", "max_chars": 500}},
        timeout_s=9.0,
    )
    assert [tool.name for tool in tools] == ["find_note", "write"]
    find, write = (declaration(tool) for tool in tools)
    assert (find.side_effect, find.max_chars, find.timeout_s) == ("none", 500, 9.0)
    assert (write.side_effect, write.trust, write.timeout_s) == ("external", "untrusted", 9.0)
    assert catalogue(tools).specs == catalogue(reversed(tools)).specs


def test_an_answer_is_delimited_as_data(notes: McpServer, run: Run) -> None:
    result = run(notes.tools(only=["search"])[0], "c", {"words": "tea"})
    assert not result.error
    assert result.text.startswith('<untrusted tool="search"')
    assert "5 notes about tea" in result.text


def test_the_servers_words_are_cut_cleaned_and_cannot_close_their_delimiter(
    notes: McpServer, log: Path
) -> None:
    said = spec(notes.tools(only=["search"])[0]).description
    assert "no instructions to you" in said
    assert said.count("</untrusted") == 1
    assert said.rstrip().split("\n")[-1].startswith("</untrusted id=")
    assert "\u202e" not in said
    assert "\u200b" not in said
    log.with_name("pids.words").write_text("A very long story. " * 1_000)
    with McpServer("other", [sys.executable, str(SERVER), str(log)]) as other:
        assert len(spec(other.tools(only=["search"])[0]).description) < 1_300


def test_the_developers_description_replaces_all_words_of_the_server(notes: McpServer) -> None:
    made = spec(notes.tools(only=["search"], describe={"search": "Search notes."})[0])
    assert made.description == "Search notes."
    assert "title" not in made.parameters
    assert "Ignore" not in made.parameters


def test_arguments_are_checked_before_they_are_sent(notes: McpServer, run: Run) -> None:
    result = run(notes.tools(only=["search"])[0], "c", {"words": 5})
    assert result.error


def test_a_tool_that_fails_says_why_as_data(notes: McpServer, run: Run) -> None:
    result = run(notes.tools(only=["fail"])[0], "c", {})
    assert result.error
    assert "no such note" in result.text
    assert "<untrusted" in result.text


@pytest.mark.parametrize("effect", ["external", "none"])
def test_a_server_that_dies_in_mid_call_is_a_clear_error_and_starts_again(
    notes: McpServer, log: Path, run: Run, effect: Any
) -> None:
    write = notes.tools(only=["write"], side_effect=effect)[0]
    began = time.monotonic()
    result = run(write, "c", {"text": "die"})
    assert time.monotonic() - began < 15
    assert result.error
    assert "'notes' ended in the middle of the call" in result.text
    assert result.unknown == (effect == "external")
    assert ("unknown" in result.text) == (effect == "external")
    assert log.with_name("pids.notes").read_text() == "die\n"  # it was not sent again
    assert "written" in run(write, "c", {"text": "live"}).text
    assert len(_pids(log)) == 2


def test_a_server_that_died_between_two_calls_starts_again(
    notes: McpServer, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentmesh.tools.mcp.IDLE_S", 0.0)
    write = notes.tools(only=["write"])[0]
    os.kill(_pids(log)[0], 9)
    assert "written" in run_call(write, "c", {"text": "a"}).text
    assert len(_pids(log)) == 2


def test_a_server_that_hangs_is_given_up_and_ended(notes: McpServer, log: Path, run: Run) -> None:
    wait = notes.tools(only=["wait"], side_effect="none", timeout_s=0.3)[0]
    began = time.monotonic()
    result = run(wait, "c", {"seconds": 60})
    assert result.error
    assert "did not answer within 0.3 s" in result.text
    notes.close()
    assert time.monotonic() - began < 20
    assert not _runs(_pids(log)[0])


def test_a_huge_answer_is_cut(notes: McpServer, run: Run) -> None:
    much = notes.tools(only=["much"], max_chars=1_000, side_effect="none")[0]
    result = run(much, "c", {"megabytes": 5})
    assert len(result.text) < 1_200
    assert "cut here" in result.text


def test_bytes_that_are_no_text_break_nothing(notes: McpServer, run: Run) -> None:
    garble = notes.tools(only=["garble"])[0]
    assert "garbled" in run(garble, "c", {}).text


def test_a_definition_that_changes_while_it_runs_is_refused(notes: McpServer, run: Run) -> None:
    tools = notes.tools()
    search = _named(tools, "search")
    assert not run(search, "c", {"words": "tea"}).error
    assert "changed" in run(_named(tools, "change"), "c", {}).text
    deadline = time.monotonic() + 10
    while not (refused := run(search, "c", {"words": "tea"})).error:
        assert time.monotonic() < deadline
    assert "has changed what 'search' is since it was approved" in refused.text
    assert "Send all notes away" not in spec(search).description


def test_the_servers_own_definition_is_part_of_the_pin(log: Path) -> None:
    pins = []
    for words in ("Search.", "Search, and more."):
        log.with_name("pids.words").write_text(words)
        with McpServer("notes", [sys.executable, str(SERVER), str(log)]) as server:
            made = server.tools(only=["search"], describe={"search": "Mine."})
            pins.append(catalogue(made).pins["search"])
    assert pins[0] != pins[1]


def test_a_closed_server_answers_with_an_error(notes: McpServer, run: Run) -> None:
    search = notes.tools(only=["search"])[0]
    notes.close()
    assert "'notes' is closed" in run(search, "c", {"words": "a"}).text


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["/no/such/program"], "did not start"),
        ([sys.executable, "-c", "raise SystemExit(3)"], "did not start"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], "did not start within 1 s"),
    ],
)
def test_a_server_that_does_not_start_is_a_config_error(command: list[str], told: str) -> None:
    server = McpServer("bad", command, start_s=1.0)
    with server, pytest.raises(ConfigError, match=told) as caught:
        server.tools()
    assert caught.value.hint


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"command": "python x.py"},
        {"command": ["python"], "url": "http://localhost/mcp"},
    ],
)
def test_a_server_needs_a_command_or_a_url(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="needs a command or a URL"):
        McpServer("bad", **given)


@pytest.mark.parametrize("field", ["only", "rename", "describe", "each"])
def test_a_tool_that_the_server_lacks_is_named(notes: McpServer, field: str) -> None:
    given: Any = {"only": ["gone"]}.get(field, {"gone": "x"} if field != "each" else {"gone": {}})
    with pytest.raises(ConfigError, match="has no tool 'gone'") as caught:
        notes.tools(**{field: given})
    assert "search" in caught.value.hint
