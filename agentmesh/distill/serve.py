"""A student as a tier: a langchain-core chat model around anything that answers prompts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import LangSmithParams, LanguageModelInput
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict

from agentmesh.distill.student import Guess, Student
from agentmesh.distill.traces import Message
from agentmesh.providers import to_blocks

if TYPE_CHECKING:
    from agentmesh.memory import Memory


class StudentModel(BaseChatModel):
    """A student behind the interface of chat models, to be given to a `Tier`.

    Where the student abstains, the answer is empty with the stop reason `refusal`: a failed
    draft, so that the step escalates.

    Example:
        Tier("student", StudentModel(student=LocalStudent.load("desk.skops"), name="desk"))
    """

    student: Any
    """What answers: a `Student`."""
    name: str = "student"
    """What the ledger calls it: `student:NAME`."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    @classmethod
    def load(cls, path: Path | str, name: str = "student") -> StudentModel:
        """Return the model of a saved student."""
        from agentmesh.distill.students import load

        return cls(student=load(path), name=name)

    @classmethod
    def live(cls, memory: Memory, name: str) -> StudentModel:
        """Return the student that is live under a name, its files verified."""
        from agentmesh.distill.lifecycle import Register

        return cls.load(Register(memory).verified(name).path, name)

    @property
    def _llm_type(self) -> str:
        return "agentmesh-student"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return LangSmithParams(ls_provider="student", ls_model_name=self.name, ls_model_type="chat")

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: Any = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return the model with the tools that it may call."""
        listed = [convert_to_openai_tool(tool) for tool in tools]
        return self.bind(tools=chat_tools(listed), **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        student: Student = self.student
        guess = student.answer(chat_messages(messages), kwargs.get("tools") or ())
        return ChatResult(generations=[ChatGeneration(message=spoken(guess))])


def chat_messages(messages: Sequence[BaseMessage]) -> list[Message]:
    """Return langchain's messages as OpenAI chat messages with plain text contents."""
    plain: list[Message] = []
    for message in messages:
        if isinstance(message, AIMessage):
            plain.append(_answer(message))
        elif isinstance(message, ToolMessage):
            plain.append(
                {"role": "tool", "tool_call_id": message.tool_call_id, "content": _text(message)}
            )
        else:
            role = "system" if isinstance(message, SystemMessage) else "user"
            plain.append({"role": role, "content": _text(message)})
    return plain


def chat_tools(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return tools with the fields that a server would be sent, in one order, as traces have them."""
    shown = []
    for tool in tools:
        function: dict[str, Any] = {"name": tool["function"]["name"]}
        if tool["function"].get("description"):
            function["description"] = tool["function"]["description"]
        parameters = tool["function"].get("parameters") or {}
        function["parameters"] = {"type": "object", "properties": {}, **parameters}
        shown.append({"type": "function", "function": function})
    return shown


def _text(message: BaseMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    parts = (
        part if isinstance(part, str) else str(part.get("text", ""))
        for part in message.content
        if isinstance(part, str) or part.get("type") == "text"
    )
    return "\n\n".join(part for part in parts if part.strip())


def _answer(message: AIMessage) -> Message:
    """Return an assistant's message; arguments are the text that was written, where it is kept."""
    blocks = to_blocks(message, "student:")
    texts = [b["text"] for b in blocks if b["type"] == "text" and b["text"].strip()]
    answer: Message = {"role": "assistant", "content": "\n\n".join(texts) or None}
    calls = [
        {
            "id": b["id"],
            "type": "function",
            "function": {"name": b["name"], "arguments": b["arguments"]},
        }
        for b in blocks
        if b["type"] == "call"
    ]
    return {**answer, "tool_calls": calls} if calls else answer


def spoken(guess: Guess) -> AIMessage:
    """Return a guess as a chat model's answer; an abstention is an empty refusal."""
    usage = UsageMetadata(
        input_tokens=guess.input_tokens,
        output_tokens=guess.output_tokens,
        total_tokens=guess.input_tokens + guess.output_tokens,
    )
    if guess.answer is None:
        told = {"stop_reason": "refusal", "abstained": guess.reason, "confidence": guess.confidence}
        return AIMessage("", response_metadata=told, usage_metadata=usage)
    calls = [
        {
            "id": call["id"],
            "name": call["function"]["name"],
            "args": json.loads(call["function"]["arguments"]),
            "type": "tool_call",
        }
        for call in guess.answer.get("tool_calls") or ()
    ]
    stop = "tool_calls" if calls else "stop"
    return AIMessage(
        guess.answer.get("content") or "",
        tool_calls=calls,
        response_metadata={"stop_reason": stop, "confidence": guess.confidence},
        usage_metadata=usage,
    )
