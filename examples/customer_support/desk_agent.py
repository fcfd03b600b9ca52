"""The support agent itself: what a program of your own would contain."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from agentmesh.examples.customer_support.tools import CHECKS
from agentmesh.tools.desk import Desk

if TYPE_CHECKING:
    from agentmesh import Agent, Tier
    from agentmesh.memory import Memory
    from agentmesh.routing import Router

BLOCKED_REPLY = "Thank you for your message. We answer questions on orders and products only."
FALLBACK = "I am sorry, something went wrong on our side. A colleague answers you by email."


@cache
def policy() -> str:
    """Return the desk's instructions."""
    path = files("agentmesh.examples.customer_support").joinpath("data/policy.md")
    return path.read_text(encoding="utf-8")


def desk_router() -> Router:
    """Return the shipped router with the desk's own rules before its own.

    A request that needs a tool to change something is one for the middle tier here.
    """
    from agentmesh.routing import Router, Rules

    shipped = Router.auto()
    path = files("agentmesh.examples.customer_support").joinpath("data/routing.toml")
    own = path.read_text(encoding="utf-8")
    rules = Rules.parse(own + shipped.rules.text, source="routing.toml")
    return Router(rules, shipped.classifier, spam=shipped.spam, need={"tool": 0.5})


def support_agent(
    desk: Desk,
    tiers: Sequence[Tier],
    *,
    memory: Memory | str = "sqlite://",
    router: Router | None = None,
) -> Agent:
    """Return the support agent: the policy, the desk's tools and its checks."""
    from agentmesh import Agent

    return Agent(
        name="support",
        instructions=policy(),
        tools=desk.tools(),
        tiers=tiers,
        memory=memory,
        router=router or desk_router(),
        checks=CHECKS,
        blocked_reply=BLOCKED_REPLY,
        fallback=FALLBACK,
    )
