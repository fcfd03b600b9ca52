from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentmesh.memory import Memory
from agentmesh.memory.conformance import Conformance


class TestEachDatabase(Conformance):
    """On SQLite and PostgreSQL, by the fixtures of this folder."""


class TestInMemory(Conformance):
    @pytest.fixture
    def memory(self) -> Iterator[Memory]:
        memory = Memory("sqlite://")
        yield memory
        memory.close()
