"""Tiers: which models an agent may use, cheapest first."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from agentmesh.errors import ConfigError

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from agentmesh.economy.prices import Price
    from agentmesh.memory.views import View
    from agentmesh.routing.pace import Rate

_NAME = re.compile(r"[\w.-]{1,64}")
_MODEL = re.compile(r"(anthropic|openai|openai-compatible|student):\S+")

STUDENT = "student"
"""The vendor of models that an agent's own register fills."""

MAX_TOKENS = 4_096


@dataclass(frozen=True)
class Tier:
    """One level of intelligence: a name, a model, and what is known of its price.

    >>> Tier("flagship", "anthropic:claude-opus-5-5").model_name
    'anthropic:claude-opus-5-5'

    Args:
        name: what the rest of the program calls it.
        model: `anthropic:NAME`, `openai:NAME`, `openai-compatible:NAME`, any langchain-core
            chat model, or `student:NAME`: what the memory's register promoted under that name.
        base_url: a proxy, a gateway, a local server or the emulator in the vendor's place.
        api_key: the vendor's environment variable where it is left out.
        max_tokens: of one answer.
        temperature: the vendor's default where it is None.
        timeout_s: of one request.
        price: of a model that no price list knows, in dollars per million tokens.
        cache: false for a model whose prompt is not to be marked for caching.
        diagnose: whether the vendor is asked why its cache missed, where it can say (Anthropic,
            OpenAI from GPT-5.6 on); by default only at the vendor's own address, since a proxy may
            refuse to be asked.
        view: what the model may see of the buckets and the log; everything, if left out.
        handoff: what the model is shown of a step that it takes over from a lower tier, where that
            costs less than to read the whole log; the whole log, if left out.
        siblings: models of the same level that answer while this one cannot: model strings of the
            same vendor, or tiers with an address and a price of their own.
        rate: requests and tokens per minute that its model may be sent, and how fast it must be.
        extra: more parameters of the vendor's API; of a student's seat, see `distill.Seat`.
    """

    name: str
    model: str | BaseChatModel
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    max_tokens: int = MAX_TOKENS
    temperature: float | None = None
    timeout_s: float = 60.0
    price: Price | None = None
    cache: bool = True
    diagnose: bool | None = None
    view: View | None = None
    handoff: View | None = None
    siblings: Sequence[Tier | str] = ()
    rate: Rate | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"{self.name!r} is not a tier's name", hint="a word such as 'student' or 'flagship'"
            )
        if isinstance(self.model, str) and not _MODEL.fullmatch(self.model):
            raise ConfigError(
                f"tier {self.name!r}: {self.model!r} names no model",
                hint="write VENDOR:NAME with anthropic, openai, openai-compatible or student",
            )
        for view in (self.view, self.handoff):
            if view is not None and not hasattr(view, "first_turn"):
                raise ConfigError(
                    f"tier {self.name!r}: {view!r} is no view", hint="view=View(profile=False)"
                )
        if not isinstance(self.model, str) and not hasattr(self.model, "invoke"):
            raise ConfigError(
                f"tier {self.name!r}: {self.model!r} is no model",
                hint="a string such as 'anthropic:claude-opus-5-5', or a langchain-core chat model",
            )

        if isinstance(self.siblings, str):
            raise ConfigError(
                f"siblings={self.siblings!r} is no list", hint=f"siblings=[{self.siblings!r}]"
            )
        for other in self.siblings:
            self._sibling(other)  # a wrong one is told here

    @cached_property
    def models(self) -> tuple[Tier, ...]:
        """This tier and its siblings, in the order in which they are asked."""
        return (self, *map(self._sibling, self.siblings))

    def _sibling(self, other: Tier | str) -> Tier:
        """Return another model of this level as a tier of the same name."""
        if isinstance(other, Tier):
            return replace(other, name=self.name, siblings=())
        same = isinstance(self.model, str) and str(other).split(":")[0] == self.model.split(":")[0]
        if not same and (self.base_url is not None or not isinstance(self.model, str)):
            raise ConfigError(
                f"tier {self.name!r}: the sibling {other!r} needs an address of its own",
                hint="siblings=[Tier(NAME, MODEL, base_url=...)]",
            )
        own = replace(self, model=other, price=None, siblings=())
        return own if same else replace(own, api_key=None, extra={})

    @cached_property
    def model_name(self) -> str:
        """The model as the ledger and the price list know it: `vendor:name`."""
        if isinstance(self.model, str):
            return self.model
        params = self.model._get_ls_params()  # the one place where any model names itself
        vendor = params.get("ls_provider") or type(self.model).__name__.lower()
        return f"{vendor}:{params.get('ls_model_name') or self.model._llm_type}"

    @cached_property
    def ours(self) -> bool:
        """Whether the model is one of ours, which know cache marks and exact usage."""
        if isinstance(self.model, str):
            return not self.model.startswith(f"{STUDENT}:")
        from agentmesh.providers import ChatModel

        return isinstance(self.model, ChatModel)

    @cached_property
    def calls_tools(self) -> bool:
        """Whether the model can be given tools at all."""
        if isinstance(self.model, str):
            return True
        from langchain_core.language_models import BaseChatModel

        return type(self.model).bind_tools is not BaseChatModel.bind_tools

    @cached_property
    def diagnosed(self) -> bool:
        """Whether the vendor is asked why its cache missed."""
        from agentmesh.economy.semantics import semantics

        named = self.model_name.startswith(("anthropic:", "openai:"))
        if not (self.ours and named and semantics(self.model_name).diagnoses):
            return False
        if self.diagnose is not None:
            return self.diagnose
        return self.base_url is None and getattr(self.chat, "base_url", None) is None

    @property
    def audience(self) -> str:
        """Whom a prompt is projected for: a foreign model gets plain text without marks."""
        return self.model_name if self.ours else f"langchain:{self.model_name}"

    @cached_property
    def chat(self) -> BaseChatModel:
        """The chat model, connected when it is first used."""
        if not isinstance(self.model, str):
            return self.model
        if self.model.startswith(f"{STUDENT}:"):
            raise ConfigError(
                f"{self.model!r} is filled by an agent's memory", hint="give the tier to an Agent"
            )
        from agentmesh.providers import connect

        return connect(
            self.model,
            base_url=self.base_url,
            api_key=self.api_key,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            timeout_s=self.timeout_s,
            **self.extra,
        )


def check_tiers(tiers: Sequence[Tier]) -> tuple[Tier, ...]:
    """Return the tiers if there is at least one and no two share a name."""
    if not tiers or not all(isinstance(tier, Tier) for tier in tiers):
        raise ConfigError(
            f"tiers={list(tiers)!r} has no tier", hint="tiers=[Tier('flagship', 'anthropic:...')]"
        )
    names = [tier.name for tier in tiers]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"two tiers are called {twice[0]!r}", hint="give each its own name")
    return tuple(tiers)
