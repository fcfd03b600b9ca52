from __future__ import annotations

import pytest

from agentmesh.examples.customer_support.shop import Shop, generate
from agentmesh.examples.customer_support.traffic import Traffic, traffic


@pytest.fixture(scope="session")
def shop() -> Shop:
    return generate(7)


@pytest.fixture(scope="session")
def asked(shop: Shop) -> Traffic:
    return traffic(shop)
