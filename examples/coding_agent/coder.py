"""The coding agent itself: what a program of your own would contain."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from langchain_core.tools import BaseTool

from agentmesh.tools import context, declaration, tool
from agentmesh.tools.workspace import Workspace

if TYPE_CHECKING:
    from agentmesh import Agent, Tier
    from agentmesh.memory import Memory
    from agentmesh.routing import CheckContext, Draft, Router

MAX_STEPS = 200


def coding_agent(space: Workspace, tiers: Sequence[Tier], memory: Memory) -> Agent:
    """Return an agent that works in `space`: the cheapest tier looks, the top one edits."""
    from agentmesh import Agent

    hands = [*space.tools(), _set_plan(memory)]
    return Agent(
        name="coder",
        instructions=_data("instructions.md"),
        tools=hands,
        tiers=tiers,
        memory=memory,
        router=_router(),
        checks=[OnlyTheTopEdits(hands, tiers[-1].name)],
        max_steps=MAX_STEPS,
        max_input_chars=20_000,
    )


def _set_plan(memory: Memory) -> BaseTool:
    @tool(side_effect="local", idempotent=True)
    def set_plan(plan: str, files: list[str]) -> str:
        """Write down the plan and the files in play; they stay in view.

        Args:
            plan: What you will do, in a few sentences.
            files: The files that you will look at or change.
        """
        task = memory.task(context().session)
        task.set("plan", plan, source="agent")
        task.set("files", files, source="agent")
        return "noted"

    return set_plan


class OnlyTheTopEdits:
    """Refuses a lower tier's draft that would change something: the step escalates."""

    name = "only-the-top-edits"

    def __init__(self, hands: Sequence[BaseTool], top: str) -> None:
        effects = {item.name for item in hands if declaration(item).side_effect != "none"}
        self._edits = effects - {"run_command", "set_plan"}
        self._top = top

    def __call__(self, draft: Draft, context: CheckContext) -> str | None:
        """Return why the draft is refused, or None."""
        edits = sorted({call.name for call in draft.calls} & self._edits)
        if edits and context.tier != self._top:
            return f"the tier {context.tier!r} may not use {edits[0]!r}"
        return None


def _router() -> Router:
    from agentmesh.routing import Router, Rules

    return Router(Rules.parse(_data("routing.toml"), source="routing.toml"))


def _data(name: str) -> str:
    path = files("agentmesh.examples.coding_agent").joinpath("data", name)
    return path.read_text(encoding="utf-8")
