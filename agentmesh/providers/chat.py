"""What our chat models share: langchain-core's interface over a pure body and a parsed answer."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Literal, Self

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import LangSmithParams, LanguageModelInput
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, field_validator

from agentmesh.economy.tokens import count
from agentmesh.errors import ConfigError, InputError
from agentmesh.providers.chunks import Reader
from agentmesh.providers.failures import MESSAGE_CHARS, failure
from agentmesh.providers.loopback import loopback_host

NO_KEY = "none"
"""Sent where a server needs no key, since the SDKs insist on one."""

_OURS = {"stream", "timeout_s", "ls_structured_output_format", "run_manager"}


class ChatModel(BaseChatModel):
    """A chat model that is written directly on a vendor's SDK; `connect` makes one.

    `body` is the whole request as a pure function of its arguments. One call is one request:
    nothing is retried here. `timeout_s` bounds a call from its start to its last byte, and can be
    given per call (`model.invoke(messages, timeout_s=20)`), as can any field of the vendor's body.

    >>> model = connect("anthropic:claude-opus-5-5", api_key="sk-...")
    >>> sorted(model.body([HumanMessage("Hello")]))
    ['max_tokens', 'messages', 'model']
    """

    model: str
    """The vendor's name of the model."""
    api_key: SecretStr | None = Field(default=None, repr=False)
    """The key; without it the vendor's environment variable, and none on a loopback address."""
    base_url: str | None = Field(default=None, repr=False)
    """Where the API is, if not at the vendor."""
    max_tokens: int = Field(default=4096, ge=1)
    """The longest answer, in tokens."""
    temperature: float | None = None
    """How random the answer is; None leaves it to the vendor."""
    timeout_s: float = Field(default=60.0, gt=0)
    """The longest that one call may take."""
    extra: dict[str, Any] = Field(default_factory=dict, repr=False)
    """More fields of the vendor's request body, such as `thinking` or `reasoning`."""
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    """More HTTP headers, such as `anthropic-beta` or a gateway's own."""
    tool_changes: bool = True
    """Tell of a changed tool in the vendor's own way, if it has one; a gateway may know none."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    vendor: ClassVar[str]
    """What stands before the colon in a model string."""
    key_variable: ClassVar[str]
    """The environment variable of the key ("" for none)."""
    sdk: ClassVar[Literal["anthropic", "openai"]]
    """The SDK that carries the requests."""
    path: ClassVar[str]
    """The endpoint, after `base_url`."""
    reserved: ClassVar[frozenset[str]]
    """Fields of the body that only `body` may write."""

    _connection: Any = PrivateAttr(default=None)

    @field_validator("extra")
    @classmethod
    def _check_extra(cls, extra: dict[str, Any]) -> dict[str, Any]:
        cls._refuse_reserved(extra)
        return extra

    @property
    def model_name(self) -> str:
        """The model as a model string, such as `anthropic:claude-opus-5-5`."""
        return f"{self.vendor}:{self.model}"

    @property
    def name_(self) -> str:
        """The vendor's name of the model, such as `claude-opus-5-5`."""
        return self.model

    @abstractmethod
    def body(
        self,
        messages: Sequence[BaseMessage],
        *,
        tools: Sequence[Any] = (),
        tool_choice: Any = None,
        stop: Sequence[str] | None = None,
        stream: bool = False,
        cache_key: str = "",
        withheld: Collection[str] = (),
        **extra: Any,
    ) -> dict[str, Any]:
        """Return the request's body: equal arguments give equal bytes.

        `withheld` names tools that this caller may not use; an API that can leave a tool out
        without another list does so, and with any other one a call of it is refused.
        """

    @abstractmethod
    def _reader(self) -> Reader:
        """Return what turns this API's events into chunks of a message."""

    @abstractmethod
    def _parse(self, value: dict[str, Any], request_id: str) -> AIMessage:
        """Return the message of a whole answer."""

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: Any = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return the model with tools: those of `to_tools`, or any that langchain knows."""
        bound = [convert_to_openai_tool(tool, strict=strict) for tool in tools]
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        return self.bind(tools=bound, **kwargs)

    def get_num_tokens(self, text: str) -> int:
        """Return the tokens of `text` by the one rule that everything here counts by."""
        return count(text)

    def close(self) -> None:
        """Close the connections that are kept open; the model stays usable."""
        if self._connection is not None:
            self._connection.close()

    def key(self) -> str:
        """Return the API key, or raise a `ConfigError` that names its variable."""
        given = self.api_key.get_secret_value() if self.api_key is not None else ""
        key = (given or os.environ.get(self.key_variable, "")).strip()
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            raise ConfigError(
                f"the API key for {self.model_name!r} has characters that no header can carry",
                hint="copy it again, without blanks or line breaks",
            )
        if key:
            return key
        if loopback_host(self.base_url) or (self.base_url and not self.key_variable):
            return NO_KEY
        raise ConfigError(
            f"no API key for {self.model_name!r}",
            hint=f"set {self.key_variable}, or pass api_key=",
        )

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = self._connected().post(
            self.path, self._sent(messages, stop, False, kwargs), self._timeout(kwargs)
        )
        return self._result(answer.value, answer.request_id)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = await self._connected().apost(
            self.path, self._sent(messages, stop, False, kwargs), self._timeout(kwargs)
        )
        return self._result(answer.value, answer.request_id)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        body = self._sent(messages, stop, True, kwargs)
        reader = self._reader()
        with self._connected().stream(self.path, body, self._timeout(kwargs)) as events:
            for event in events.items:
                for chunk in self._chunks(reader, event):
                    if run_manager is not None:
                        run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk
            yield ChatGenerationChunk(message=reader.close(events.request_id))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        body = self._sent(messages, stop, True, kwargs)
        reader = self._reader()
        async with self._connected().astream(self.path, body, self._timeout(kwargs)) as events:
            async for event in events.items:
                for chunk in self._chunks(reader, event):
                    if run_manager is not None:
                        await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk
            yield ChatGenerationChunk(message=reader.close(events.request_id))

    def _result(self, value: dict[str, Any], request_id: str) -> ChatResult:
        with self._understood():
            message = self._parse(value, request_id)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _chunks(self, reader: Reader, event: dict[str, Any]) -> list[ChatGenerationChunk]:
        with self._understood():
            return [ChatGenerationChunk(message=chunk) for chunk in reader.feed(event)]

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """Turn what a parser stumbles over into the vendor's failure: it is not its protocol."""
        try:
            yield
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            what = f"sent an answer of an unknown form: {type(error).__name__}: {error}"
            raise failure("api", self.model_name, what[:MESSAGE_CHARS]) from error

    def _sent(
        self,
        messages: Sequence[BaseMessage],
        stop: Sequence[str] | None,
        stream: bool,
        kwargs: Mapping[str, Any],
    ) -> dict[str, Any]:
        fields = {name: value for name, value in kwargs.items() if name not in _OURS}
        return self.body(messages, stop=stop, stream=stream, **fields)

    def _timeout(self, kwargs: Mapping[str, Any]) -> float:
        timeout_s = kwargs.get("timeout_s")
        if timeout_s is None:
            return self.timeout_s
        if not timeout_s > 0:
            raise failure("timeout", self.model_name, "was not asked: no time was left")
        return float(timeout_s)

    def _connected(self) -> Any:
        if self._connection is None:
            from agentmesh.providers.transport import Connection

            self._connection = Connection(
                self.sdk,
                model=self.model_name,
                api_key=self.key(),
                base_url=self.base_url,
                headers=partial(self._headers, self.headers),
            )
        return self._connection

    @staticmethod
    def _headers(own: Mapping[str, str], body: Mapping[str, Any]) -> Mapping[str, str]:
        """Return the headers that go with a body, the model's `own` among them."""
        return own

    def _fields(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        """Return the body's free fields in a fixed order; a call's win over the model's."""
        self._refuse_reserved(extra)
        fields = {"temperature": self.temperature, **self.extra, **extra}
        if fields.get("max_tokens") is None:
            fields["max_tokens"] = self.max_tokens
        return {name: fields[name] for name in sorted(fields) if fields[name] is not None}

    @classmethod
    def _refuse_reserved(cls, extra: Mapping[str, Any]) -> None:
        taken = sorted(cls.reserved & set(extra))
        if taken:
            raise ConfigError(
                f"the field {taken[0]!r} cannot be set directly",
                hint="it is written from the messages and tools",
            )

    @property
    def _llm_type(self) -> str:
        return f"agentmesh-{self.vendor}"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {
            "model": self.model_name,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            **self.extra,
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = self.vendor
        params["ls_model_name"] = self.model
        return params

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.model_copy()


def as_tools(tools: Sequence[Any]) -> list[dict[str, Any]]:
    """Return tools as function dicts with a `mark`, sorted by name; any tool's mark is the last's.

    The sorting makes the list, which opens every prompt, independent of how it was put together.
    """
    functions, mark = [], None
    for tool in tools:
        known = convert_to_openai_tool(tool)
        function = known.get("function")
        if not isinstance(function, dict) or not function.get("name"):
            raise InputError(f"a tool without a name: {known!r:.80}", hint="see to_tools")
        mark = known.get("mark") or mark
        functions.append(function)
    functions.sort(key=lambda function: str(function["name"]))
    listed = [{"function": function, "mark": None} for function in functions]
    if listed:
        listed[-1]["mark"] = mark
    return listed


def schema_of(function: Mapping[str, Any]) -> dict[str, Any]:
    """Return a function's parameters as a JSON schema of an object."""
    return {"type": "object", "properties": {}, **(function.get("parameters") or {})}
