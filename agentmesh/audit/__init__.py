"""What calls cost, why caches missed, and what another design would have cost."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentmesh.audit.accounts import Accounts, add_up
    from agentmesh.audit.audit import Audit, Report
    from agentmesh.audit.designs import Assumptions

_HOME = {
    "Accounts": "agentmesh.audit.accounts",
    "Assumptions": "agentmesh.audit.designs",
    "Audit": "agentmesh.audit.audit",
    "Report": "agentmesh.audit.audit",
    "add_up": "agentmesh.audit.accounts",
}

__all__ = ["Accounts", "Assumptions", "Audit", "Report", "add_up"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
