"""An agent releases what it holds, once, and answers nobody after that."""

import asyncio
import threading

import pytest
from langchain_core.language_models import FakeListChatModel

from agentmesh import Agent, Tier
from agentmesh.errors import ConfigError
from agentmesh.memory import Memory


def agent(memory):
    tiers = [Tier("only", FakeListChatModel(responses=["Hi!"]))]
    return Agent("echo", "You answer.", tiers=tiers, memory=memory)


def test_a_memory_that_the_agent_opened_is_closed_with_it(tmp_path):
    with agent(f"sqlite:///{tmp_path / 'a.db'}") as ours:
        assert ours.invoke("Hello, are you there?", session="s").text == "Hi!"
        assert (tmp_path / "a.db-wal").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]
    ours.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]


def test_a_memory_that_was_given_stays_open(tmp_path):
    memory = Memory("sqlite://")
    with agent(memory) as first:
        first.invoke("Hello, are you there?", session="s")
    assert memory.sessions() == ["s"]
    with agent(memory) as second:
        assert second.invoke("And are you still there?", session="s").turn == 2
    memory.close()


def test_it_is_closed_after_an_error_too(tmp_path):
    with pytest.raises(RuntimeError, match="mine"), agent(f"sqlite:///{tmp_path / 'a.db'}") as ours:
        raise RuntimeError("mine")
    with pytest.raises(ConfigError, match="'echo' is closed"):
        ours.invoke("Hello, are you there?")


def test_a_closed_agent_answers_nobody():
    ours = agent("sqlite://")
    ours.close()
    for use in (
        lambda: ours.invoke("Hello?"),
        lambda: next(ours.stream("Hello?")),
        lambda: ours.resume(True, session="s"),
        lambda: asyncio.run(ours.ainvoke("Hello?")),
        ours.idle,
    ):
        with pytest.raises(ConfigError, match="'echo' is closed"):
            use()


def test_an_async_with_statement_closes_it_beside_the_event_loop(tmp_path):
    blocked = []

    async def main():
        async with agent(f"sqlite:///{tmp_path / 'a.db'}") as ours:
            assert (await ours.ainvoke("Hello, are you there?", session="s")).text == "Hi!"
            close = ours.memory.close
            ours.memory.close = lambda: (blocked.append(threading.current_thread()), close())
        await ours.aclose()

    asyncio.run(main())
    assert len(blocked) == 1
    assert blocked[0] is not threading.main_thread()
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]
