from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentmesh.memory import Memory
from agentmesh.memory.conformance import Conformance, by_twins


class TestEachDatabase(Conformance):
    """On SQLite and PostgreSQL, by the fixtures of this folder."""


class TestByTwins(Conformance):
    """The same on one event loop."""

    @pytest.fixture
    def memory(self, memory: Memory) -> Iterator[Memory]:
        with by_twins(memory) as shown:
            yield shown


class TestInMemory(Conformance):
    @pytest.fixture
    def memory(self) -> Iterator[Memory]:
        memory = Memory("sqlite://")
        yield memory
        memory.close()


class TestInMemoryByTwins(TestInMemory):
    @pytest.fixture
    def memory(self, memory: Memory) -> Iterator[Memory]:
        with by_twins(memory) as shown:
            yield shown
