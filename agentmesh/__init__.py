"""Agents that use the right amount of intelligence at the right price."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentmesh.agent import Agent
    from agentmesh.budgets import Budget
    from agentmesh.economy.prices import Price
    from agentmesh.errors import AgentmeshError
    from agentmesh.reply import Reply
    from agentmesh.streaming import Part
    from agentmesh.tiers import Tier

_HOME = {
    "Agent": "agentmesh.agent",
    "AgentmeshError": "agentmesh.errors",
    "Budget": "agentmesh.budgets",
    "Part": "agentmesh.streaming",
    "Price": "agentmesh.economy.prices",
    "Reply": "agentmesh.reply",
    "Tier": "agentmesh.tiers",
}

__all__ = ["Agent", "AgentmeshError", "Budget", "Part", "Price", "Reply", "Tier"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
