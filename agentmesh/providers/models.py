"""A model string as a model that can be called."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr, ValidationError

from agentmesh.errors import ConfigError
from agentmesh.providers.anthropic import AnthropicModel
from agentmesh.providers.chat import ChatModel
from agentmesh.providers.compatible import CompatibleModel
from agentmesh.providers.openai import OpenAIModel

_MODELS: dict[str, type[ChatModel]] = {
    kind.vendor: kind for kind in (AnthropicModel, CompatibleModel, OpenAIModel)
}


def connect(
    model: str,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    max_tokens: int = 4096,
    temperature: float | None = None,
    timeout_s: float = 60.0,
    **extra: Any,
) -> ChatModel:
    """Return the chat model that a model string names; no request is made, no SDK imported.

    Args:
        model: `anthropic:NAME`, `openai:NAME` or `openai-compatible:NAME`.
        base_url: The API's address, for a proxy, the emulator or an own server.
        api_key: The key; by default from the vendor's environment variable. `openai-compatible`
            reads none, since it may be anybody's server.
        max_tokens: The longest answer.
        temperature: None leaves it to the vendor, as some models refuse any.
        timeout_s: The longest that one call may take, in seconds.
        extra: More fields of the model or of the vendor's request body, such as `thinking`.

    Raises:
        ConfigError: The string, the key or an argument is wrong.
    """
    vendor, colon, name = str(model).partition(":")
    kind = _MODELS.get(vendor)
    if kind is None or not colon or not name.strip():
        raise ConfigError(
            f"unknown model {model!r}",
            hint=f"write VENDOR:NAME with one of {', '.join(sorted(_MODELS))}",
        )
    if kind is CompatibleModel and not base_url:
        raise ConfigError(f"{model!r} needs a base_url", hint="such as http://127.0.0.1:8000/v1")
    own = {key: extra.pop(key) for key in list(extra) if key in kind.model_fields}
    try:
        connected = kind(
            model=name,
            base_url=base_url,
            api_key=SecretStr(api_key) if api_key else None,
            max_tokens=max_tokens,
            temperature=temperature,
            timeout_s=timeout_s,
            extra=extra,
            **own,
        )
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{model!r} cannot be set up: {where}: {first['msg']}", hint="see help(connect)"
        ) from None
    connected.key()
    return connected
