"""The vendors' own word on why a prompt cache missed, where a request asks for it.

A response is compared with an earlier one that the request names: what differs first, of the
things that the vendor lists, is the reason.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

from agentmesh.economy.usage import Usage
from agentmesh.emulator.wire import Parsed, compact

_KEPT = 1_000


class Fingerprint(NamedTuple):
    """What a later request is compared with; `settings` in the order in which they are compared."""

    settings: Mapping[str, str]
    blocks: tuple[tuple[bytes, int], ...]

    @classmethod
    def of(cls, parsed: Parsed) -> Fingerprint:
        """Return the fingerprint of a request."""
        raw = parsed.request.raw
        blocks = tuple((block.sha, block.tokens) for block in parsed.blocks)
        if parsed.request.api == "messages":
            named = {
                "model_changed": parsed.name,
                "tools_changed": _unmarked(raw.get("tools")),
                "system_changed": _unmarked(raw.get("system")),
            }
            return cls(named, blocks)
        text, reasoning = raw.get("text") or {}, raw.get("reasoning") or {}
        options = {
            "model": parsed.name,
            "prompt_cache_key": raw.get("prompt_cache_key"),
            "tools": raw.get("tools"),
            "text_format": text.get("format"),
            "reasoning_effort": reasoning.get("effort"),
            "verbosity": text.get("verbosity"),
            "service_tier": raw.get("service_tier"),
        }
        return cls({f"{name}_changed": compact(value) for name, value in options.items()}, blocks)

    @property
    def tokens(self) -> int:
        """The whole prompt's length."""
        return sum(tokens for _, tokens in self.blocks)

    def setting_changed_since(self, before: Fingerprint) -> str | None:
        """Return the vendor's name of the first setting that differs, None if none does."""
        for name, value in self.settings.items():
            if before.settings.get(name) != value:
                return name
        return None

    def shared_with(self, before: Fingerprint) -> int:
        """Return how many tokens the two prompts begin with in common."""
        total = 0
        for mine, theirs in zip(self.blocks, before.blocks, strict=False):
            if mine != theirs:
                break
            total += mine[1]
        return total


class Diagnoses:
    """Remembers the latest requests that asked to be comparable, and compares."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Fingerprint] = OrderedDict()

    def clear(self) -> None:
        """Forget all requests."""
        self._known.clear()

    def fields(self, id_: str, parsed: Parsed, usage: Usage) -> dict[str, Any]:
        """Return what a response says about its cache, under the vendor's field name."""
        raw = parsed.request.raw
        if parsed.request.api == "messages":
            asked = raw.get("diagnostics")
            if not isinstance(asked, dict):
                return {}
            return {"diagnostics": self._anthropic(id_, parsed, usage, asked)}
        asked = raw.get("prompt_cache_options")
        if parsed.request.api != "responses" or not isinstance(asked, dict):
            return {}
        told = self._openai(id_, parsed, usage, asked.get("comparison_response_id"))
        return {"prompt_cache_diagnostics": told}

    def _remember(self, id_: str, now: Fingerprint) -> None:
        self._known[id_] = now
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)

    def _anthropic(
        self, id_: str, parsed: Parsed, usage: Usage, asked: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        now = Fingerprint.of(parsed)
        self._remember(id_, now)
        previous = asked.get("previous_message_id")
        if previous is None:
            return None
        before = self._known.get(previous)
        if before is None:
            return {"cache_miss_reason": {"type": "previous_message_not_found"}}
        reason = now.setting_changed_since(before)
        if reason is None and now.shared_with(before) < before.tokens:
            reason = "messages_changed"
        if reason is None:
            return None
        missed = max(0, before.tokens - usage.read)
        return {"cache_miss_reason": {"type": reason, "cache_missed_input_tokens": missed}}

    def _openai(
        self, id_: str, parsed: Parsed, usage: Usage, previous: str | None
    ) -> dict[str, Any] | None:
        now = Fingerprint.of(parsed)
        self._remember(id_, now)
        if previous is None:
            return None
        before = self._known.get(previous)
        if before is None:
            return {"type": "comparison_response_not_found"}
        shared = now.shared_with(before)
        reason = now.setting_changed_since(before)
        if reason is None and shared < before.tokens:
            reason = "input_changed"
        if reason is None:
            return {"type": "cache_hit" if usage.read else "unavailable"}
        return {
            "type": "cache_miss",
            "reason": reason,
            "cache_missed_tokens": now.tokens - shared,
            "comparison_reusable_tokens": shared,
        }


def _unmarked(value: Any) -> str:
    """Return tools or a system prompt as JSON without its breakpoints, which may move."""
    if isinstance(value, list):
        value = [
            {key: inner for key, inner in one.items() if key != "cache_control"} for one in value
        ]
    elif isinstance(value, str):
        value = [{"type": "text", "text": value}]
    return compact(value)
