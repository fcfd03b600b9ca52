"""Prices, cache rules and billing, plans and warmth: pure functions, no database."""

from agentmesh.economy.billing import Block, CacheSpace, Lookup, PrefixCache, digest, pieces
from agentmesh.economy.cost_model import Rates
from agentmesh.economy.misses import Facts, Miss, miss
from agentmesh.economy.planner import Gaps, Plan, plan
from agentmesh.economy.prices import Price, PriceBook
from agentmesh.economy.semantics import CacheSemantics, ModelName, known, semantics
from agentmesh.economy.tokens import count
from agentmesh.economy.usage import Usage
from agentmesh.economy.warmth import Warmth, outline

__all__ = [
    "Block",
    "CacheSemantics",
    "CacheSpace",
    "Facts",
    "Gaps",
    "Lookup",
    "Miss",
    "ModelName",
    "Plan",
    "PrefixCache",
    "Price",
    "PriceBook",
    "Rates",
    "Usage",
    "Warmth",
    "count",
    "digest",
    "known",
    "miss",
    "outline",
    "pieces",
    "plan",
    "semantics",
]
