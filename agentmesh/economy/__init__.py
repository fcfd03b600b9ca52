"""Prices, cache semantics and the vendors' cache billing: pure functions, no database."""

from agentmesh.economy.billing import Block, CacheSpace, Lookup, PrefixCache, digest, pieces
from agentmesh.economy.prices import Price, PriceBook
from agentmesh.economy.semantics import CacheSemantics, ModelName, known, semantics
from agentmesh.economy.tokens import count
from agentmesh.economy.usage import Usage

__all__ = [
    "Block",
    "CacheSemantics",
    "CacheSpace",
    "Lookup",
    "ModelName",
    "PrefixCache",
    "Price",
    "PriceBook",
    "Usage",
    "count",
    "digest",
    "known",
    "pieces",
    "semantics",
]
