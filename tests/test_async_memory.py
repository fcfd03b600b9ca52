from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel

from agentmesh import Agent, Tier

QUESTION = "Where is my order, please?"


def agent(folder: Path, **more: Any) -> Agent:
    model = FakeListChatModel(responses=["It is on its way."], **more)
    return Agent(
        "desk", "You answer.", tiers=[Tier("only", model)], memory=f"sqlite:///{folder}/a.db"
    )


def test_more_turns_of_one_session_than_there_are_threads(tmp_path: Path) -> None:
    """Who waits for the session holds no thread, so that whoever has it can always go on."""
    desk = agent(tmp_path)

    async def main() -> list[Any]:
        asked = (desk.ainvoke(QUESTION, user="u1", session="s1") for _ in range(48))
        return await asyncio.wait_for(asyncio.gather(*asked), 60)

    assert sorted(reply.turn for reply in asyncio.run(main())) == list(range(1, 49))
    assert desk.memory.verify().calls == 48
    desk.memory.close()


@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.01, 0.02, 0.03, 0.05])
def test_a_cancelled_turn_leaves_its_session_free(tmp_path: Path, after_s: float) -> None:
    desk = agent(tmp_path, sleep=0.02)

    async def main() -> None:
        await desk.ainvoke(QUESTION, user="u1", session="warm")
        for _ in range(3):
            task = asyncio.create_task(desk.ainvoke(QUESTION, user="u1", session="s1"))
            await asyncio.sleep(after_s)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        reply = await asyncio.wait_for(desk.ainvoke(QUESTION, user="u1", session="s1"), 20)
        assert reply.text == "It is on its way."

    asyncio.run(main())
    kinds = [record.kind for record in desk.memory.history("s1").records()]
    assert kinds.count("user") == kinds.count("end")
    assert kinds[-3:] == ["user", "assistant", "end"]
    desk.memory.verify()
    desk.memory.close()
