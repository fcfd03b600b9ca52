"""One turn of the coding agent, routed step by step, and what the emulator bills for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import NamedTuple

from agentmesh import Tier
from agentmesh.examples.coding_agent.brains import BRAINS, FLAGSHIP, STUDENT
from agentmesh.examples.coding_agent.coder import coding_agent
from agentmesh.examples.coding_agent.solve import SAMPLE_TESTS, sample
from agentmesh.memory import Call, Memory
from agentmesh.testing import emulator
from agentmesh.tools.workspace import Workspace

TASK = f"Look into this task: the tests fail.\nTest command: `{SAMPLE_TESTS}`\n"
BOTH = f"{TASK}Fix it now, and commit."
MODELS = {"student": STUDENT, "flagship": FLAGSHIP}


class Worked(NamedTuple):
    """One turn: its answer, its calls, the bill by the emulator, and the patch."""

    text: str
    calls: Sequence[Call]
    micro: Mapping[str, int]
    patch: str


def work(*names: str) -> Worked:
    """Repair the shipped repository in a single turn of an agent with these tiers."""
    with sample() as repo, emulator(BRAINS) as server, closing(Workspace(repo)) as space:
        tiers = [
            Tier(name, f"anthropic:{MODELS[name]}", base_url=server.url, api_key="emulator")
            for name in names
        ]
        assert space.git is not None
        base = space.git.head()
        agent = coding_agent(space, tiers, Memory("sqlite://"))
        reply = agent.invoke(BOTH, session="work")
        calls = list(reply.steps)
        while reply.interrupts:
            reply = agent.resume(True, session="work")
            calls += reply.steps
        micro = {
            name: sum(bill.cost_micro or 0 for bill in server.bills if bill.model.endswith(model))
            for name, model in MODELS.items()
        }
        return Worked(reply.text, calls, micro, space.git.patch(base).decode())


def test_within_one_turn_the_student_looks_and_the_flagship_edits_within_the_guard() -> None:
    mixed, alone = work("student", "flagship"), work("flagship")
    assert mixed.patch == alone.patch != ""
    assert "committed" in mixed.text
    done = [call for call in mixed.calls if call.purpose == "act"]
    assert {call.turn for call in done} == {1}
    tiers = [call.tier for call in done if call.outcome == "ok"]
    first = tiers.index("flagship")
    assert first > 3
    assert set(tiers[first:]) == {"flagship"}
    refused = [call for call in done if call.outcome != "ok"]
    assert [(call.tier, call.outcome) for call in refused] == [
        ("student", "check:only-the-top-edits")
    ]
    paid, large = sum(mixed.micro.values()), sum(alone.micro.values())
    assert 0 < mixed.micro["student"] < mixed.micro["flagship"]
    assert paid < 0.95 * large
    sums = done[-1].decision["guard"]
    assert (sums["paid"], sums["alone"]) == (paid, large)  # to the micro-dollar
