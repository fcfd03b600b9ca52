"""What recorded conversations are billed, against the limit, against what was predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentmesh.economy.billing import PrefixCache, prefixes
from agentmesh.economy.misses import Facts, Layer, miss
from agentmesh.economy.planner import positions
from agentmesh.economy.prices import Price, PriceBook
from agentmesh.economy.semantics import semantics
from agentmesh.economy.usage import Usage
from agentmesh.economy.warmth import Warmth, outline
from benchmarks.economy.plans import Judge
from benchmarks.economy.recorded import Conversation, interleaved


def bill(conversations: Sequence[Conversation], model: str, side_by_side: int) -> dict[str, Any]:
    """Return what the calls are billed, read from real requests by the emulator's own reader."""
    rules = semantics(model)
    price = PriceBook().price(model)
    if price is None:
        raise ValueError(f"{model!r} has no price")
    judge, warmth = Judge((model,)), Warmth()
    now = 0.0
    cache = PrefixCache(rules, clock=lambda: now)
    limit = 0.0
    last_used: dict[bytes, float] = {}
    total, uncached = Usage(), 0
    predicted: list[float] = []
    billed: list[float] = []
    missed = explained = 0
    calls: dict[str, Facts] = {}
    for asked in interleaved(conversations, rules, side_by_side):
        now = asked.at
        parsed = judge.read(model, asked.prompt)
        seen = outline(asked.prompt, asked.conversation.name)
        guess = warmth.predict(model, seen, now)
        lookup = cache.look_up(parsed.blocks, implicit=parsed.implicit)
        cache.begin(lookup)
        warmth.learn(model, seen, lookup.usage, now)
        total += lookup.usage
        uncached += lookup.usage.input
        predicted.append(_input_cost(price, guess.usage))
        billed.append(_input_cost(price, lookup.usage))
        for block, point in zip(parsed.blocks, prefixes(parsed.blocks), strict=True):
            warm = now - last_used.get(point.key, float("-inf")) < rules.ttl_s
            limit += block.tokens * float((price.read if warm else _write(price, rules)) or 0)
            last_used[point.key] = now
        name = asked.conversation.name
        facts = _facts(model, asked, lookup.usage, rules.ttl_s)
        reason = miss(calls.get(name), calls.get(name), facts)
        calls[name] = facts
        if reason is not None:
            missed += reason.tokens
            explained += reason.tokens if reason.cause != "unknown" else 0
    within = sum(abs(p - b) <= 0.05 * b for p, b in zip(predicted, billed, strict=True))
    return {
        "model": model,
        "conversations": len(conversations),
        "calls": len(billed),
        "input_tokens": total.input,
        "read_share": round(total.read / total.input, 4),
        "input_usd": round(sum(billed) / 1e6, 4),
        "over_uncached": round(sum(billed) / (float(price.input) * uncached), 4),
        "over_limit": round(sum(billed) / limit, 4),
        "predicted_bias": round(sum(predicted) / sum(billed) - 1, 5),
        "predicted_within_5_percent": round(within / len(billed), 4),
        "missed_tokens": missed,
        "missed_explained": round(explained / missed, 4) if missed else 1.0,
    }


def _write(price: Price, rules: Any) -> Any:
    return price.write if rules.family in ("anthropic", "openai-explicit") else price.input


def _input_cost(price: Price, usage: Usage) -> float:
    return float(
        price.input * usage.fresh
        + (price.read or 0) * usage.read
        + (price.write or 0) * usage.write
        + (price.write_long or 0) * usage.write_long
    )


def _facts(model: str, asked: Any, usage: Usage, ttl_s: float) -> Facts:
    conversation = asked.conversation
    new = asked.shown[asked.before :]
    return Facts(
        model=model,
        at=asked.at,
        usage=usage,
        layers=tuple(Layer(name, name, tokens) for name, tokens in conversation.layers),
        first=1,
        head=asked.shown[-1].seq,
        log_tokens=sum(entry.tokens for entry in asked.shown),
        before=sum(entry.tokens for entry in asked.shown[: asked.before]),
        positions=sum(positions(entry) for entry in new) if asked.before else 0,
        ttl_s=ttl_s,
        answered_at=asked.at,
    )
