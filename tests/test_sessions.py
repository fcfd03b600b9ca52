"""A session's last steps weigh in the router's choice, the same in every process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from agentmesh import Agent, Tier
from agentmesh.memory import Memory, Turn
from agentmesh.routing import CheckContext, Draft, Outlook, Policy, Router
from agentmesh.sessions import Session
from agentmesh.testing import Answer, Emulator, Request, emulator

SMALL, LARGE = "claude-haiku-4-5", "claude-opus-5-5"
CORE = "You are the desk of a shop. " * 1_000
QUESTION = "Compare the two plans for me, which one is cheaper?"
BAR = 0.5


class Small:
    """A small model that is wrong whenever it is told to be."""

    def __init__(self) -> None:
        self.wrong = False

    def __call__(self, request: Request) -> Answer:
        return Answer("wrong" if self.wrong and request.model == SMALL else "On its way.")


@pytest.fixture
def small() -> Small:
    return Small()


@pytest.fixture
def server(small: Small) -> Iterator[Emulator]:
    with emulator(small) as running:
        yield running


def refuses(draft: Draft, context: CheckContext) -> str | None:
    return "it is wrong" if draft.text == "wrong" else None


def desk(server: Emulator, memory: Memory | str, **arguments: Any) -> Agent:
    tiers = [
        Tier(name, f"anthropic:{model}", base_url=server.url)
        for name, model in (("small", SMALL), ("large", LARGE))
    ]
    router = Router.auto().changed(bar=BAR).under(Policy(pin_after=99, guard=None))
    return Agent(
        "desk", CORE, tiers=tiers, router=router, memory=memory, checks=[refuses], **arguments
    )


Ask = Callable[[int], Any]


def story(ask: Ask, small: Small) -> list[tuple[str, str, float, float]]:
    """Ask six times; the small tier gets the third and the fourth wrong if it is asked."""
    rows = []
    for number in range(6):
        small.wrong = number in (2, 3)
        for call in ask(number).steps:
            words, chances = call.decision["words"], call.decision["chances"]
            rows.append((call.tier, call.outcome, words["small"], chances["small"]))
    return rows


def test_the_last_drafts_move_the_chances_alike_in_one_process_and_in_many(
    server: Emulator, small: Small, tmp_path: Path
) -> None:
    one = desk(server, "sqlite://")
    together = story(lambda n: one.invoke(QUESTION, session="s1"), small)
    url = f"sqlite:///{tmp_path / 'mesh.db'}"
    apart = story(lambda n: desk(server, url).invoke(QUESTION, session="s1"), small)
    assert together == apart
    tiers, _, words, chances = zip(*together, strict=True)
    assert tiers[:5] == ("small", "small", "small", "large", "large")
    assert words[0] == chances[0]
    assert chances[4] < BAR < words[4]
    assert chances[-1] > chances[4]


def test_after_a_failure_the_next_like_request_goes_up(server: Emulator, small: Small) -> None:
    agent = desk(server, "sqlite://")
    small.wrong = True
    assert [c.tier for c in agent.invoke(QUESTION, session="s1").steps] == [
        "small",
        "large",
    ]
    small.wrong = False
    assert agent.invoke(QUESTION, session="s1").steps[0].tier == "large"
    assert agent.invoke(QUESTION, session="s2").steps[0].tier == "small"


def test_what_is_expected_of_a_session_is_like_what_it_was(server: Emulator, small: Small) -> None:
    agent = desk(server, "sqlite://")
    for number in range(9):
        agent.invoke(QUESTION, user="u1", session=f"s{number % 3}")
    memory, seen = agent.memory, []
    said = [{"type": "text", "text": QUESTION}]
    for name in ("s0", "new"):
        turn = memory.open_turn(session=name, user="u1", agent="desk", blocks=said)
        turn.recall(agent.core)

        def load(connection: Connection, turn: Turn = turn) -> Session:
            return Session.load(connection, turn, ["small"], since=0.0)

        session = memory.database.read(load)
        seen.append((session, session.outlook(Outlook(steps=2.0), turn)))
        turn.finish("failed")
    (known, outlook), (fresh, at_first) = seen
    assert (known.steps, known.sharers) == (3, 3)
    assert (fresh.steps, fresh.sharers) == (0, 4)
    assert outlook.steps == 3.0
    assert outlook.output_tokens < 10 < outlook.new_tokens < 30
    assert outlook.shared_tokens > 5_000
    assert [set(chances) for chances in outlook.later] == [{"small"}] * 3
    assert at_first.steps == 2.0
    assert at_first.output_tokens == Outlook().output_tokens
