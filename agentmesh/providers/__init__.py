"""Models: one interface over Anthropic, OpenAI and every server of Chat Completions.

`connect` makes a model from a model string; `to_messages` and `to_tools` show it a prompt;
`to_blocks`, `usage_of` and `stop_of` read its answer. Nothing heavy is imported before its use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentmesh.providers.anthropic import AnthropicModel
    from agentmesh.providers.blocks import to_blocks
    from agentmesh.providers.chat import ChatModel
    from agentmesh.providers.compatible import CompatibleModel
    from agentmesh.providers.failures import ModelFailure
    from agentmesh.providers.models import connect
    from agentmesh.providers.openai import OpenAIModel
    from agentmesh.providers.project import forget, to_messages, to_tools
    from agentmesh.providers.usage import stop_of, usage_of

__all__ = [
    "AnthropicModel",
    "ChatModel",
    "CompatibleModel",
    "ModelFailure",
    "OpenAIModel",
    "connect",
    "forget",
    "stop_of",
    "to_blocks",
    "to_messages",
    "to_tools",
    "usage_of",
]

_MODULES = {
    "AnthropicModel": "anthropic",
    "ChatModel": "chat",
    "CompatibleModel": "compatible",
    "ModelFailure": "failures",
    "OpenAIModel": "openai",
    "connect": "models",
    "forget": "project",
    "stop_of": "usage",
    "to_blocks": "blocks",
    "to_messages": "project",
    "to_tools": "project",
    "usage_of": "usage",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"agentmesh.providers.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
