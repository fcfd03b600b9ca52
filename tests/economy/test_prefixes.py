from __future__ import annotations

from agentmesh.economy.billing import Block, PrefixCache, digest, prefixes
from agentmesh.economy.semantics import semantics

BLOCKS = [Block(digest("user", str(n)), 200 + n, "short" if n % 3 else None, n) for n in range(9)]


def test_prefixes_may_be_computed_as_a_prompt_grows():
    whole = prefixes(BLOCKS)
    grown = prefixes(BLOCKS[:4])
    grown += prefixes(BLOCKS[4:], after=grown[-1])
    assert grown == whole


def test_a_look_up_with_known_prefixes_is_the_same_look_up():
    cache = PrefixCache(semantics("anthropic:claude-opus-5-5"), clock=lambda: 0.0)
    cache.begin(cache.look_up(BLOCKS[:5]))
    assert cache.look_up(BLOCKS, points=prefixes(BLOCKS)) == cache.look_up(BLOCKS)
