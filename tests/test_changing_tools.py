"""An agent whose tools change while its sessions go on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from langchain_core.tools import BaseTool

from agentmesh import Agent, Tier
from agentmesh.errors import ConfigError
from agentmesh.memory import Memory
from agentmesh.testing import Answer, Request, emulator
from agentmesh.tools import CallContext, Pins, idempotency_key, tool

POLICY = "You are the desk of a shop. " * 200
CLAUDE = "anthropic:claude-opus-5-5"
GPT = "openai:gpt-6.1-sol"
LOCAL = "openai-compatible:qwen3-8b"
MODELS = pytest.mark.parametrize("model", [CLAUDE, GPT, LOCAL])


def made(name: str, done: list[str], **terms: object) -> BaseTool:
    @tool(name=name, description=f"Do {name}.", **terms)  # type: ignore[arg-type]
    def work(order: str) -> str:
        done.append(f"{name} {order}")
        return f"{name} of {order} done"

    return work


def calling(request: Request) -> Answer:
    """Do what the user names, whether the request offers it or not; then say what came of it."""
    if request.results:
        return Answer("Result: " + request.results[-1])
    asked = [m.text for m in request.turn if not m.text.startswith("<tools-update>")]
    return Answer("", [(asked[-1].split()[-1], {"order": "W1"})])


def desk(server: object, model: str, tools: list[BaseTool], **more: object) -> Agent:
    url = server.url if model == CLAUDE else server.openai_url  # type: ignore[attr-defined]
    tiers = [Tier("only", model, base_url=url)]
    return Agent("desk", POLICY, tools=tools, tiers=tiers, **more)  # type: ignore[arg-type]


def names(request: Request) -> set[str]:
    return {(item.get("function") or item)["name"] for item in request.tools} - {"recall"}


@MODELS
def test_a_removed_tool_runs_no_more_and_the_model_is_told(model: str) -> None:
    done: list[str] = []
    seen: list[set[str]] = []

    def brain(request: Request) -> Answer:
        seen.append(names(request))
        return calling(request)

    with emulator(brain) as server:
        agent = desk(server, model, [made("refund", done), made("look", done)])
        agent.invoke("Please refund", session="s1")
        agent.change_tools([made("look", done)])
        reply = agent.invoke("Now once more, refund", session="s1")
        assert "there is no tool 'refund' any more" in reply.text
        assert agent.invoke("Please look", session="s1").text.endswith("look of W1 done")
        agent.memory.verify()
    assert done == ["refund W1", "look W1"]
    assert seen[0] == {"refund", "look"}
    if model != LOCAL:
        assert seen[-1] == {"look"}


@MODELS
def test_an_added_tool_is_used_where_the_vendor_has_a_way(model: str) -> None:
    done: list[str] = []
    seen: list[set[str]] = []

    def brain(request: Request) -> Answer:
        seen.append(names(request))
        return Answer("ok") if "Hello" in request.user_text else calling(request)

    with emulator(brain) as server:
        agent = desk(server, model, [made("look", done)])
        agent.invoke("Hello, who are you?", session="s1")
        agent.change_tools([made("look", done), made("refund", done)])
        agent.invoke("Hello again, friend", session="s1")
        assert seen[-1] == ({"look"} if model == LOCAL else {"look", "refund"})
        if model != LOCAL:
            assert agent.invoke("Please refund", session="s1").text.endswith("refund of W1 done")
            reads = [bill.usage.read for bill in server.bills]
            assert min(reads[1:]) > 1_000
        calls = agent.memory.ledger.calls(session="s1")
        assert {one.epoch for one in calls} == {1}
        assert [agent.memory.rebuild("s1", one).tools for one in calls].count(
            agent.memory.rebuild("s1", calls[0]).tools
        ) == len(calls)
        agent.memory.verify()


def test_a_tool_removed_while_a_person_is_asked_does_not_run_when_they_agree() -> None:
    done: list[str] = []
    with emulator(calling) as server:
        agent = desk(server, CLAUDE, [made("refund", done, approval="always")])
        assert agent.invoke("Please refund", session="s1").interrupts
        agent.change_tools([])
        reply = agent.resume("approve", session="s1")
        assert "there is no tool 'refund' any more" in reply.text
        agent.memory.verify()
    assert done == []


def test_a_call_that_was_approved_before_a_crash_does_not_run_after_the_removal() -> None:
    done: list[str] = []

    @tool(side_effect="external", approval="always")
    def refund(order: str) -> str:
        """Pay money back."""
        done.append(order)
        raise KeyboardInterrupt  # the process is killed in mid-call

    with emulator(calling) as server:
        memory = Memory()
        first = desk(server, CLAUDE, [refund], memory=memory)
        assert first.invoke("Please refund", session="s1").interrupts
        turn = memory.reopen_turn(session="s1", user="anonymous", claim="")
        assert turn is not None
        call = turn.records[-1].entry.blocks[0]["id"]
        decision = {"type": "approve"}
        turn.add("approval", [], 0, call=call, decision=decision, by="ann", why="asked")
        turn.wait()
        later = desk(server, CLAUDE, [], memory=memory)
        reply = later.resume(session="s1")
        assert "there is no tool 'refund' any more" in reply.text
        memory.verify()
    assert done == []


@pytest.mark.parametrize("awaits", [False, True])
def test_a_tool_removed_by_a_call_beside_it_does_not_run(awaits: bool) -> None:
    done: list[str] = []

    def brain(request: Request) -> Answer:
        if request.results:
            return Answer(" | ".join(request.results))
        return Answer("", [("close_desk", {}), ("look", {"order": "W1"})])

    with emulator(brain) as server:

        @tool(side_effect="local")
        def close_desk() -> str:
            """Take every other tool away."""
            agent.change_tools([close_desk])
            return "closed"

        @tool
        def look(order: str) -> str:
            """Look an order up."""
            done.append(order)
            return "seen"

        agent = desk(server, CLAUDE, [close_desk, look])
        if awaits:
            asyncio.run(agent.ainvoke("Please close", session="s1"))
        else:
            agent.invoke("Please close", session="s1")
        done.clear()  # the two calls ran side by side: either order is right
        reply = agent.invoke("Please close", session="s1")
        assert "there is no tool 'look' any more" in reply.text
        agent.memory.verify()
    assert done == []


def test_a_cut_off_call_of_a_removed_tool_is_reported_as_unknown() -> None:
    done: list[str] = []
    with emulator(calling) as server:
        memory = Memory()
        first = desk(server, CLAUDE, [made("refund", done, side_effect="external")], memory=memory)
        said = [{"type": "text", "text": "Please refund"}]
        turn = memory.open_turn(session="s1", user="anonymous", agent="desk", blocks=said)
        turn.recall(first.core)
        asked = {"type": "call", "id": "c1", "name": "refund", "arguments": '{"order":"W1"}'}
        turn.add("assistant", [asked])
        where = CallContext(tenant=memory.tenant, session="s1", turn=turn.number, step=0)
        key = idempotency_key(where, "refund", {"order": "W1"})
        turn.add("intent", [], 0, key=key, tool="refund", args='{"order":"W1"}')
        turn.wait()  # as far as a process came that was killed while the tool ran
        later = desk(server, CLAUDE, [], memory=memory)
        assert "outcome is unknown" in later.resume(session="s1").text
        memory.verify()
    assert done == []


def test_pins_approvals_and_labels_hold_an_added_tool_as_a_first_one(tmp_path: Path) -> None:
    done: list[str] = []
    with emulator(calling) as server:
        agent = desk(
            server, CLAUDE, [made("page", done, trust="untrusted")], pins=Pins(tmp_path / "p")
        )
        agent.invoke("Please page", session="s1")
        new = made("refund", done, side_effect="external")
        agent.change_tools([made("page", done, trust="untrusted"), new])
        asked = agent.invoke("Please refund", session="s1").interrupts[0]["action_requests"][0]
        assert "nobody has approved this tool's definition yet" in asked["description"]
        agent.resume("approve", session="s1", by="ann")
        asked = agent.invoke("Again, please refund", session="s1").interrupts[0]["action_requests"][
            0
        ]
        assert "untrusted text" in asked["description"]  # now pinned; its label asks all the same
        agent.resume("reject", session="s1")
        agent.memory.verify()
    assert done == ["page W1", "refund W1"]


def test_the_words_of_a_removed_tool_stay_untrusted() -> None:
    done: list[str] = []
    with emulator(calling) as server:
        memory = Memory()
        first = desk(server, CLAUDE, [made("page", done, trust="untrusted")], memory=memory)
        first.invoke("Please page", session="s1")
        later = desk(server, CLAUDE, [made("refund", done, side_effect="external")], memory=memory)
        assert later.invoke("Please refund", session="s1").interrupts
    assert done == ["page W1"]


def test_a_tier_is_not_offered_what_it_may_not_call() -> None:
    done: list[str] = []
    seen: list[set[str]] = []

    def brain(request: Request) -> Answer:
        seen.append(names(request))
        return Answer("ok")

    with emulator(brain) as server:
        tiers = [
            Tier("small", "openai:gpt-6.1-luna", base_url=server.openai_url),
            Tier("large", GPT, base_url=server.openai_url),
        ]
        tools = [made("look", done), made("refund", done, tiers={"large"})]
        agent = Agent("desk", POLICY, tools=tools, tiers=tiers)
        reply = agent.invoke("Hello, who are you?", session="s1")
        raw = {tool.name for tool in agent.memory.rebuild("s1", reply.steps[-1]).tools}
    assert raw >= {"look", "refund"}
    assert seen == [{"look"} if reply.steps[-1].tier == "small" else {"look", "refund"}]


def test_tools_that_cannot_be_changes_nothing() -> None:
    done: list[str] = []
    with emulator(calling) as server:
        agent = desk(server, CLAUDE, [made("look", done)])
        with pytest.raises(ConfigError, match="two tools are named"):
            agent.change_tools([made("x", done), made("x", done)])
        with pytest.raises(ConfigError, match="which is not defined"):
            agent.change_tools([made("x", done, tiers={"huge"})])
        assert agent.invoke("Please look", session="s1").text.endswith("look of W1 done")
