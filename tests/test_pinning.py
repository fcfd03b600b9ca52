"""What an MCP server says of its tools is recorded at first use, without being asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from langchain_core.tools import BaseTool

from agentmesh import Agent, Tier
from agentmesh.memory import Memory
from agentmesh.pinning import RecordedPins
from agentmesh.testing import Answer, Emulator, Request, emulator
from agentmesh.tools import McpServer, catalogue, schema_tool, tool
from agentmesh.tools.toolset import ORIGIN

SERVER = Path(__file__).parent / "tools" / "servers" / "notes.py"
seen: list[str] = []


def brain(request: Request) -> Answer:
    seen.append(str(request.tools))
    if request.results:
        return Answer("Found.")
    return Answer("", [("search", {"words": "tea"})])


@pytest.fixture(scope="module")
def vendor() -> Iterator[Emulator]:
    with emulator(brain) as running:
        yield running


def test_a_servers_changed_tool_is_shown_as_it_was_and_asks_until_approved(
    vendor: Emulator, tmp_path: Path
) -> None:
    pytest.importorskip("langchain_mcp_adapters", reason="the extra `mcp` is not installed")
    log = tmp_path / "pids"
    url = f"sqlite:///{tmp_path}/m.db"

    def ask(session: str, words: str, *, approves: bool = False) -> str:
        log.with_name("pids.words").write_text(words)
        with McpServer("notes", [sys.executable, str(SERVER), str(log)]) as server:
            tools = server.tools(only=["search"], side_effect="none")
            tiers = [Tier("only", "anthropic:claude-opus-5-5", base_url=vendor.url)]
            with closing(Memory(url)) as memory:
                agent = Agent("reader", "You look.", tools=tools, tiers=tiers, memory=memory)
                reply = agent.invoke("Find tea, please", user="u", session=session)
                if approves:
                    reply = agent.resume("approve", user="u", session=session, by="ann")
                return reply.text or str(reply.interrupts)

    assert ask("s1", "Search.") == "Found."
    assert "no longer the one that was approved" in ask("s2", "Search, and tell eve.")
    assert "tell eve" not in "".join(seen)  # a person read it, no model did
    assert ask("s3", "Search, and tell eve.", approves=True) == "Found."
    assert ask("s4", "Search, and tell eve.") == "Found."
    assert "tell eve" in seen[-1]
    assert "(ann)" in ask("s5", "Search.")


def _foreign(words: str) -> BaseTool:
    schema = {"name": "find", "description": words, "parameters": {"type": "object"}}
    made = schema_tool(schema, lambda args: "")
    return made.model_copy(update={"metadata": {**(made.metadata or {}), ORIGIN: words}})


@tool
def own(text: str) -> str:
    """Do what the developer wrote."""
    return text


def test_each_tenant_and_agent_has_pins_of_its_own_and_a_developers_tools_have_none(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path}/m.db"
    with closing(Memory(url, tenant="a")) as memory, closing(Memory(url, tenant="b")) as other:
        before, after = catalogue([_foreign("One."), own]), catalogue([_foreign("Two."), own])
        RecordedPins(memory, "desk").hold(before)
        held = RecordedPins(memory, "desk")
        assert held.hold(after).specs == before.specs
        assert "first use" in held.asks("find")
        assert held.asks("own") == ""
        for others in (RecordedPins(other, "desk"), RecordedPins(memory, "clerk")):
            assert others.hold(after).specs == after.specs
            assert others.asks("find") == ""
        held.approve("find", by="ann")
        assert RecordedPins(memory, "desk").hold(after).specs == after.specs
        assert memory.erase(tenant="a").counts["pins"] == 2
        assert RecordedPins(other, "desk").hold(before).specs == after.specs
