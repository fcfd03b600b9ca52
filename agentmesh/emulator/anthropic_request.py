"""How a request to Anthropic's Messages API is read: tools, then system, then messages."""

from __future__ import annotations

import re
from typing import Any

from agentmesh.economy.semantics import semantics
from agentmesh.emulator.anthropic_tools import Tools, tool_kind, tool_text
from agentmesh.emulator.anthropic_turns import Turn, check_text, need, optional, read_turns
from agentmesh.emulator.brain import Call, Message, Request
from agentmesh.emulator.refusal import Refusal, unknown_fields, words
from agentmesh.emulator.wire import IMAGE_TOKENS, BlockBuilder, Parsed, compact
from agentmesh.prompt import Ttl

_FIELDS = words(
    "model messages max_tokens cache_control container diagnostics inference_geo metadata "
    "output_config service_tier speed stop_sequences stream system temperature thinking "
    "tool_choice tools top_k top_p user_profile_id context_management"
)
_CONTROL_FIELDS = frozenset(("type", "ttl"))
_NO_SAMPLING = re.compile(r"claude-(?:opus-4-[789]|\w+-[5-9]).*")


class Reader:
    """Reads one request in Anthropic's order: tools, system, messages."""

    def __init__(self, raw: dict[str, Any], key: str, betas: frozenset[str]) -> None:
        self._raw = raw
        self._key = key
        self._betas = betas
        self._offer = Tools(betas)
        self._marks: list[Ttl] = []

    def read(self) -> Parsed:
        """Return the request, or raise the refusal that Anthropic would answer with."""
        raw = self._raw
        for name in unknown_fields(raw, _FIELDS):
            raise Refusal(f"{name}: Extra inputs are not permitted")
        model = need(raw, "model", str, "model")
        if not model:
            raise Refusal("model: String should have at least 1 character")
        self._model = model
        rules = semantics(f"anthropic:{model}")
        self._builder = BlockBuilder(rules.granularity)
        limit = self._limits()
        automatic = raw.get("cache_control")
        self._tools()
        system = self._system()
        messages = self._messages(need(raw, "messages", list, "messages"))
        if automatic is not None:
            self._automatic(automatic)
        if len(self._marks) > 4:
            raise Refusal(
                "A maximum of 4 blocks with cache_control may be provided. "
                f"Found {len(self._marks)}."
            )
        tools = tuple(self._offer.offered.values())
        request = Request("messages", model, system, messages, tools, limit, self._key, raw)
        return Parsed(
            request,
            f"anthropic:{model}",
            self._builder.blocks,
            None,
            bool(raw.get("stream", False)),
            silent=limit == 0,
        )

    def _limits(self) -> int:
        raw = self._raw
        limit: int = need(raw, "max_tokens", int, "max_tokens")
        if limit < 0:
            raise Refusal("max_tokens: Input should be greater than or equal to 0")
        optional(raw, "stream", bool)
        optional(raw, "metadata", dict)
        optional(raw, "tools", list)
        optional(raw, "output_config", dict)
        optional(raw, "stop_sequences", list)
        optional(raw, "diagnostics", dict)
        diagnostics = raw.get("diagnostics") or {}
        optional(diagnostics, "previous_message_id", str, "diagnostics.previous_message_id")
        choice = raw.get("tool_choice")
        if choice is not None:
            self._choice(choice)
        if limit == 0:
            forced = isinstance(choice, dict) and choice.get("type") in ("any", "tool")
            shaped = (raw.get("output_config") or {}).get("format")
            if raw.get("stream") or forced or shaped:
                raise Refusal(
                    "max_tokens: 0 is not supported with stream, a forced tool_choice or "
                    "structured outputs"
                )
        self._sampling()
        self._thinking(limit)
        return limit

    def _sampling(self) -> None:
        for name in ("temperature", "top_p", "top_k"):
            value = self._raw.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise Refusal(f"{name}: Input should be a valid number")
            if name != "top_k" and not 0 <= value <= 1:
                raise Refusal(f"{name}: range: 0..1")
            if _NO_SAMPLING.fullmatch(self._model) and value != 1:
                raise Refusal(f"{name}: not supported for this model")

    def _thinking(self, limit: int) -> None:
        thinking = self._raw.get("thinking")
        if thinking is None:
            return
        kind = thinking.get("type") if isinstance(thinking, dict) else None
        if kind not in ("adaptive", "between_tools", "disabled", "enabled"):
            raise Refusal(
                "thinking: Input tag does not match any of the expected tags: "
                "'adaptive', 'between_tools', 'disabled', 'enabled'"
            )
        if kind != "enabled":
            return
        budget = thinking.get("budget_tokens")
        if not isinstance(budget, int) or budget < 1024:
            raise Refusal(
                "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
            )
        if budget >= limit:
            raise Refusal("`max_tokens` must be greater than `thinking.budget_tokens`.")

    def _choice(self, choice: Any) -> None:
        kind = choice.get("type") if isinstance(choice, dict) else None
        if kind not in ("auto", "any", "tool", "none"):
            raise Refusal(
                "tool_choice: Input tag does not match any of the expected tags: "
                "'auto', 'any', 'tool', 'none'"
            )
        names = [
            tool.get("name") for tool in self._raw.get("tools") or [] if isinstance(tool, dict)
        ]
        if not names:
            raise Refusal("tool_choice may only be specified while providing tools.")
        if kind == "tool" and choice.get("name") not in names:
            raise Refusal(f"Tool '{choice.get('name')}' not found in provided tools")

    def _tools(self) -> None:
        for index, tool in enumerate(self._raw.get("tools") or []):
            path = f"tools.{index}"
            if self._offer.declare(tool, path):
                self._builder.add(tool_kind(tool), tool_text(tool), mark=self._mark(tool, path))
        self._offer.close()

    def _mark(self, block: dict[str, Any], path: str) -> Ttl | None:
        control = block.get("cache_control")
        if control is None:
            return None
        return self._control(control, f"{path}.cache_control")

    def _control(self, control: Any, path: str) -> Ttl:
        if not isinstance(control, dict) or control.get("type") != "ephemeral":
            raise Refusal(f"{path}.type: Input should be 'ephemeral'")
        for field in unknown_fields(control, _CONTROL_FIELDS):
            raise Refusal(f"{path}.{field}: Extra inputs are not permitted")
        ttl = control.get("ttl", "5m")
        if ttl not in ("5m", "1h"):
            raise Refusal(f"{path}.ttl: Input should be '5m' or '1h'")
        mark: Ttl = "long" if ttl == "1h" else "short"
        if mark == "long" and "short" in self._marks:
            raise Refusal(
                f"{path}.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' "
                "cache_control block. Note that blocks are processed in the following order: "
                "`tools`, `system`, `messages`."
            )
        self._marks.append(mark)
        return mark

    def _automatic(self, control: Any) -> None:
        """Put the moving breakpoint of a top-level `cache_control` on the last block."""
        blocks = self._builder.blocks
        mark = self._control(control, "cache_control")
        if blocks[-1].mark is None:
            blocks[-1] = blocks[-1]._replace(mark=mark)
        else:
            self._marks.pop()

    def _system(self) -> str:
        system = self._raw.get("system")
        if system is None or system == "":
            return ""
        if isinstance(system, str):
            self._builder.add("system", system)
            return system
        if not isinstance(system, list):
            raise Refusal("system: Input should be a valid string or list")
        texts = []
        for index, block in enumerate(system):
            path = f"system.{index}"
            text = check_text(block, path, "system")
            self._builder.add("system", text, mark=self._mark(block, path))
            texts.append(text)
        return "\n".join(texts)

    def _messages(self, messages: list[Any]) -> tuple[Message, ...]:
        raw = self._raw
        settings = [raw.get("tool_choice"), raw.get("thinking"), raw.get("output_config") or {}]
        # what invalidates the messages, though not tools and system, is part of their first block
        head = f" {compact(settings)}"
        seen: list[Message] = []
        for turn in read_turns(self._model, messages, self._betas):
            texts: list[str] = []
            calls: list[Call] = []
            for block, path in zip(turn.blocks, turn.paths, strict=True):
                told = self._block(turn, block, path, head)
                head = ""
                if isinstance(told, Message):
                    seen.append(told)
                elif isinstance(told, Call):
                    calls.append(told)
                elif told:
                    texts.append(told)
            if texts or calls:
                said = Message(turn.role, "\n".join(texts), tuple(calls), parts=tuple(texts))
                seen.append(said)
        return tuple(seen)

    def _block(
        self, turn: Turn, block: dict[str, Any], path: str, head: str
    ) -> str | Call | Message:
        """Add a block to the prompt; return it as a brain sees it, "" if it does not."""
        kind = block["type"]
        name = f"{turn.role}{head} {kind}"
        mark = self._mark(block, path)
        if kind == "text":
            self._builder.add(name, block["text"], mark=mark)
            return str(block["text"])
        if kind == "tool_use":
            call = Call(block["id"], block["name"], compact(block["input"]))
            text = call.name + call.arguments
            self._builder.add(f"{name} {call.id}", text, mark=mark, run=kind)
            return call
        if kind == "tool_result":
            id_, text = block["tool_use_id"], _result_text(block, path)
            failed = bool(block.get("is_error"))
            self._builder.add(f"{name} {id_} {failed}", text, mark=mark, run=kind)
            return Message("tool", text, call_id=id_, parts=(text,))
        if kind in ("tool_addition", "tool_removal"):
            self._builder.add(name, self._offer.change(block, path), mark=mark)
            return ""
        if kind == "thinking":
            self._builder.add(name, block["thinking"])
        else:
            content = {key: value for key, value in block.items() if key != "cache_control"}
            self._builder.add(name, compact(content), mark=mark, tokens=IMAGE_TOKENS)
        return ""


def _result_text(block: dict[str, Any], path: str) -> str:
    content = block.get("content", "")
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise Refusal(f"{path}.tool_result.content: Input should be a valid string or list")
    texts = []
    for index, part in enumerate(content):
        where = f"{path}.tool_result.content.{index}"
        if not isinstance(part, dict) or part.get("type") not in ("text", "image", "document"):
            raise Refusal(f"{where}: Input should be a text, image or document block")
        if part["type"] == "text":
            texts.append(need(part, "text", str, f"{where}.text.text"))
    return "\n".join(texts)
