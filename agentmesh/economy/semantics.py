"""How each model's prompt cache behaves: one table, with the source of every row.

Multipliers are relative to the model's price of fresh input; they price what a price list leaves
out. A model that is not in the table gets the most cautious row of its vendor, see `known`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache
from typing import Literal, NamedTuple

ModelName = str
"""A vendor and its name of a model: `anthropic:claude-opus-5-5`, `openai-compatible:qwen3-8b`."""

Family = Literal["anthropic", "openai-explicit", "openai-auto", "prefix", "none"]
"""Whose rules hold: written at marks, at marks and the last message, or automatically."""

MINUTE_S = 60.0
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class CacheSemantics:
    """What a model's prompt cache needs, keeps and costs.

    `minimum` is the shortest prefix that is cached, in tokens; `granularity` the step that reads
    are rounded down to; `max_marks` how many breakpoints one request may write; `lookback` how
    many positions a breakpoint searches backwards, itself included (None: all). With
    `exact_match` a read ends at a breakpoint or does not happen. From `cliff` tokens of prompt
    on, the whole request is billed at a higher price. `long_ttl_s` is None where there is none.
    """

    family: Family
    minimum: int
    granularity: int
    max_marks: int
    lookback: int | None
    ttl_s: float
    long_ttl_s: float | None
    write_multiplier: Decimal
    long_write_multiplier: Decimal
    read_multiplier: Decimal
    cliff: int | None
    exact_match: bool
    source: str

    @property
    def diagnoses(self) -> bool:
        """Whether the vendor says why a cache missed, if it is asked."""
        return self.family in ("anthropic", "openai-explicit")


class _Row(NamedTuple):
    pattern: re.Pattern[str]
    semantics: CacheSemantics


_CLAUDE = CacheSemantics(
    family="anthropic",
    minimum=4096,
    granularity=1,
    max_marks=4,
    lookback=20,
    ttl_s=5 * MINUTE_S,
    long_ttl_s=HOUR_S,
    write_multiplier=Decimal("1.25"),
    long_write_multiplier=Decimal(2),
    read_multiplier=Decimal("0.1"),
    cliff=None,
    exact_match=False,
    source="platform.claude.com/docs/en/build-with-claude/prompt-caching",
)

_GPT_EXPLICIT = CacheSemantics(
    family="openai-explicit",
    minimum=1024,
    granularity=1,
    max_marks=4,
    lookback=80,
    ttl_s=30 * MINUTE_S,
    long_ttl_s=12 * HOUR_S,
    write_multiplier=Decimal("1.25"),
    long_write_multiplier=Decimal("2.5"),
    read_multiplier=Decimal("0.1"),
    cliff=272_000,
    exact_match=True,
    source="developers.openai.com/api/docs/guides/prompt-caching (GPT-5.6 and later)",
)

_GPT_AUTO = CacheSemantics(
    family="openai-auto",
    minimum=1024,
    granularity=128,
    max_marks=0,
    lookback=None,
    ttl_s=5 * MINUTE_S,
    long_ttl_s=24 * HOUR_S,
    write_multiplier=Decimal(1),
    long_write_multiplier=Decimal(1),
    read_multiplier=Decimal("0.1"),
    cliff=None,
    exact_match=False,
    source="developers.openai.com/api/docs/guides/prompt-caching (before GPT-5.6)",
)

_PREFIX = CacheSemantics(
    family="prefix",
    minimum=128,
    granularity=128,
    max_marks=0,
    lookback=None,
    ttl_s=5 * MINUTE_S,
    long_ttl_s=None,
    write_multiplier=Decimal(1),
    long_write_multiplier=Decimal(1),
    read_multiplier=Decimal(1),
    cliff=None,
    exact_match=False,
    source="cautious default for servers with automatic prefix caching (vLLM, SGLang): "
    "coarser steps than theirs, and no discount unless a price says so",
)

_NONE = replace(
    _PREFIX,
    family="none",
    minimum=0,
    granularity=1,
    ttl_s=0.0,
    source="model without prompt caching",
)


def _claude(
    pattern: str, minimum: int, read: str = "0.1", cliff: int | None = None, note: str = ""
) -> _Row:
    source = f"{_CLAUDE.source} ({note})" if note else _CLAUDE.source
    semantics = replace(
        _CLAUDE, minimum=minimum, read_multiplier=Decimal(read), cliff=cliff, source=source
    )
    return _Row(re.compile(rf"anthropic:claude-(?:{pattern})(?:-\d{{8}}|-latest)?"), semantics)


def _gpt(pattern: str, semantics: CacheSemantics, read: str, cliff: int | None = None) -> _Row:
    row = replace(semantics, read_multiplier=Decimal(read), cliff=cliff)
    return _Row(re.compile(rf"openai:(?:{pattern})"), row)


def _host(pattern: str, source: str, read: str, ttl_s: float = 5 * MINUTE_S) -> _Row:
    row = replace(_PREFIX, read_multiplier=Decimal(read), ttl_s=ttl_s, source=source)
    return _Row(re.compile(rf"(?:[a-z-]+:)?(?:.*/)?(?:{pattern})"), row)


_ROWS: tuple[_Row, ...] = (
    _claude(r"(?:fable|mythos)-5-1", 512, "0.025", note="reads at 0.025"),
    _claude(r"(?:fable|mythos)-5", 512),
    _claude(r"opus-5-5|sonnet-5-5", 512, "0.05", note="reads at 0.05 since 2026-10-07"),
    _claude(r"haiku-5-5", 512, cliff=100_000, note="five times the price above 100k tokens"),
    _claude(r"opus-5", 512),
    _claude(r"opus-4-8|sonnet-5", 1024),
    _claude(r"sonnet-4-6", 1024, note="above 200k tokens at the base price since 2026-03-13"),
    _claude(r"sonnet-4-5", 1024, cliff=200_000, note="dearer above 200k tokens"),
    _claude(r"opus-4-[01]|opus-4|sonnet-4-0|sonnet-4|3-7-sonnet", 1024),
    _claude(r"opus-4-7|3-5-haiku", 2048),
    _claude(r"opus-4-[56]|haiku-4-5", 4096),
    _gpt(r"gpt-6\.1-(?:sol|terra).*", _GPT_EXPLICIT, "0.05", cliff=272_000),
    _gpt(r"gpt-(?:5\.6|6)-cyber.*", _GPT_EXPLICIT, "0.1"),
    _gpt(r"gpt-(?:5\.[6-9]|[6-9]|\d\d)(?![0-9]).*", _GPT_EXPLICIT, "0.1", cliff=272_000),
    _gpt(r"gpt-5\.[45](?:-pro)?(?:-20.*)?", _GPT_AUTO, "0.1", cliff=272_000),
    _gpt(r"gpt-5(?![0-9]).*", _GPT_AUTO, "0.1"),
    _gpt(r"gpt-4\.1.*|o3(?:-\d.*)?|o4-mini.*", _GPT_AUTO, "0.25"),
    _gpt(r"(?:chat)?gpt-4o.*|gpt-4\.5.*|o1.*|o3-mini.*", _GPT_AUTO, "0.5"),
    _gpt(r"gpt-3\.5.*|gpt-4(?:-.*)?|o3-pro.*", _NONE, "1"),
    _host(r"deepseek.*pro.*", "api-docs.deepseek.com/guides/kv_cache", "0.034", HOUR_S),
    _host(r"deepseek.*", "api-docs.deepseek.com/guides/kv_cache", "0.02", HOUR_S),
    _host(r"grok.*", "docs.x.ai: cached prompt tokens", "0.25"),
    _host(r"(?:mistral|ministral|codestral|devstral).*", "docs.mistral.ai: prompt caching", "0.1"),
    _host(r"kimi.*|moonshot.*", "platform.moonshot.ai: context caching", "0.1"),
)

_DEFAULTS: dict[str, CacheSemantics] = {
    "anthropic": replace(_CLAUDE, source="cautious default for an unlisted Claude model"),
    "openai": replace(_GPT_EXPLICIT, source="cautious default for an unlisted OpenAI model"),
    "openai-compatible": _PREFIX,
    "student": _PREFIX,
}


_FIRST_PARTY: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?:chat)?gpt-\d.*|o\d(?:-.*)?"), "openai"),
    (re.compile(r"deepseek-(?:chat|reasoner|v\d+-(?:flash|pro)|flash)"), "deepseek"),
    (re.compile(r"grok-\d.*"), "x-ai"),
)


@lru_cache(maxsize=1024)
def listed_as(model: ModelName) -> ModelName:
    """Return the name under which a model of a compatible endpoint is in its vendor's price list.

    Open models that many hosts serve keep their name, since each host has its own price.

    >>> listed_as("openai-compatible:gpt-4o")
    'openai:gpt-4o'
    """
    vendor, _, name = model.partition(":")
    if vendor == "openai-compatible":
        for pattern, owner in _FIRST_PARTY:
            if pattern.fullmatch(name):
                return f"{owner}:{name}"
    return model


@lru_cache(maxsize=1024)
def _listed(model: ModelName) -> CacheSemantics | None:
    model = listed_as(model)
    for row in _ROWS:
        if row.pattern.fullmatch(model):
            return row.semantics
    return None


def known(model: ModelName) -> bool:
    """Return whether the table has a row for `model`, so that nothing had to be assumed."""
    return _listed(model) is not None


def semantics(model: ModelName) -> CacheSemantics:
    """Return how `model`'s prompt cache behaves; cautious defaults if it is not in the table.

    >>> semantics("anthropic:claude-opus-5-5").minimum
    512
    """
    found = _listed(model)
    if found is not None:
        return found
    vendor, _, _ = listed_as(model).partition(":")
    return _DEFAULTS.get(vendor, _PREFIX)
