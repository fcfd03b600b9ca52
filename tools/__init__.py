"""The hands of an agent: declared, bounded and recorded.

`@tool` declares what a function may do; `run_call` keeps it within that; the workspace, the
sandbox and the fetch guard keep files, commands and addresses within theirs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentmesh.tools.call import Result, arun_call, run_call, to_message
    from agentmesh.tools.caller import CallContext, bind_context, context, idempotency_key
    from agentmesh.tools.declarations import Declaration, declaration, declare, tool
    from agentmesh.tools.fetch_guard import FetchGuard
    from agentmesh.tools.journal import Journal, arun_once, keyed, run_once
    from agentmesh.tools.labels import Label, Permission, permitted
    from agentmesh.tools.mcp import McpServer
    from agentmesh.tools.pins import Pins
    from agentmesh.tools.sandbox import Limits, Sandbox
    from agentmesh.tools.schema import schema_tool, spec
    from agentmesh.tools.toolset import Catalogue, catalogue
    from agentmesh.tools.workspace import Workspace

_HOME = {
    "CallContext": "caller",
    "Catalogue": "toolset",
    "Declaration": "declarations",
    "FetchGuard": "fetch_guard",
    "Journal": "journal",
    "Label": "labels",
    "Limits": "sandbox",
    "McpServer": "mcp",
    "Permission": "labels",
    "Pins": "pins",
    "Result": "call",
    "Sandbox": "sandbox",
    "Workspace": "workspace",
    "arun_call": "call",
    "arun_once": "journal",
    "bind_context": "caller",
    "catalogue": "toolset",
    "context": "caller",
    "declaration": "declarations",
    "declare": "declarations",
    "idempotency_key": "caller",
    "keyed": "journal",
    "permitted": "labels",
    "run_call": "call",
    "run_once": "journal",
    "schema_tool": "schema",
    "spec": "schema",
    "to_message": "call",
    "tool": "declarations",
}

__all__ = [
    "CallContext",
    "Catalogue",
    "Declaration",
    "FetchGuard",
    "Journal",
    "Label",
    "Limits",
    "McpServer",
    "Permission",
    "Pins",
    "Result",
    "Sandbox",
    "Workspace",
    "arun_call",
    "arun_once",
    "bind_context",
    "catalogue",
    "context",
    "declaration",
    "declare",
    "idempotency_key",
    "keyed",
    "permitted",
    "run_call",
    "run_once",
    "schema_tool",
    "spec",
    "to_message",
    "tool",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
