"""The pytest plugin: it comes with the package and brings the fixture `cache_ledger`.

def test_every_turn_reads_the_prefix(cache_ledger):
    server = cache_ledger.serve()
    agent = build_my_agent(base_url=server.url)
    cache_ledger.watch(agent)
    for text in ("Hello", "Where is my order?", "Thank you"):
        agent.invoke(text, user="u1", session="s1")
    cache_ledger.assert_cache(read_share=0.6, unexplained=0)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from agentmesh.testing.cache import CacheLedger


@pytest.fixture
def cache_ledger() -> Iterator[CacheLedger]:
    """A vendor that costs nothing, and the ledger of what was read from its cache."""
    from agentmesh.testing.cache import CacheLedger

    ledger = CacheLedger()
    try:
        yield ledger
    finally:
        ledger.close()
