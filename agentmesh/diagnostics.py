"""A vendor's own word on why its cache missed, for the ledger to be checked against.

Anthropic, and OpenAI from GPT-5.6 on, compare a request with the one before it, if they are told
which that was. Asking changes no byte of the cached prefix and costs nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable

from agentmesh.tiers import Tier

KEPT = 8_192
"""Sessions whose last answer is remembered by its id."""

KEY = "vendor_miss"
"""Under which a call's decision keeps the vendor's reason."""


class Diagnostics:
    """Asks for the vendor's diagnosis of each call, and reads it."""

    def __init__(self) -> None:
        self._last: OrderedDict[tuple[str, str], str] = OrderedDict()

    def asking(self, tier: Tier, session: str, model: Runnable[Any, Any]) -> Runnable[Any, Any]:
        """Return the model so bound that its answer says why its cache missed."""
        if not tier.diagnosed:
            return model
        last = self._last.get((session, tier.model_name))
        if tier.model_name.startswith("anthropic:"):
            return model.bind(diagnostics={"previous_message_id": last})
        if last is None:
            return model
        return model.bind(prompt_cache_options={"comparison_response_id": last})

    def told(self, tier: Tier, session: str, message: AIMessage) -> str:
        """Return the vendor's reason for a miss, "" where it named none."""
        if not tier.diagnosed:
            return ""
        metadata = message.response_metadata
        key = session, tier.model_name
        self._last[key] = str(metadata.get("id") or "")
        self._last.move_to_end(key)
        while len(self._last) > KEPT:
            self._last.popitem(last=False)
        return _anthropic(metadata) or _openai(metadata)


def _anthropic(metadata: Mapping[str, Any]) -> str:
    told = metadata.get("diagnostics")
    reason = told.get("cache_miss_reason") if isinstance(told, Mapping) else None
    return str(reason.get("type") or "") if isinstance(reason, Mapping) else ""


def _openai(metadata: Mapping[str, Any]) -> str:
    told = metadata.get("prompt_cache_diagnostics")
    return str(told.get("reason") or "") if isinstance(told, Mapping) else ""
