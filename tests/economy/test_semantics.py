"""The table of cache semantics."""

from decimal import Decimal

import pytest

from agentmesh.economy import PriceBook, known, semantics
from agentmesh.economy.semantics import listed_as

MINIMUMS = {
    512: ["fable-5", "fable-5-1", "mythos-5", "opus-5", "opus-5-5", "sonnet-5-5", "haiku-5-5"],
    1024: ["opus-4-8", "sonnet-5", "sonnet-4-6", "sonnet-4-5", "opus-4-1"],
    2048: ["opus-4-7"],
    4096: ["opus-4-5", "opus-4-6", "haiku-4-5"],
}


@pytest.mark.parametrize(
    ("name", "minimum"), [(name, tokens) for tokens, names in MINIMUMS.items() for name in names]
)
def test_each_claude_has_its_minimum(name, minimum):
    model = f"anthropic:claude-{name}"
    assert known(model)
    rules = semantics(model)
    assert (rules.family, rules.minimum) == ("anthropic", minimum)
    assert (rules.max_marks, rules.lookback, rules.ttl_s, rules.long_ttl_s) == (4, 20, 300, 3600)
    assert semantics(f"{model}-20261001") == rules


@pytest.mark.parametrize(
    ("model", "family", "minimum", "step", "ttl_s"),
    [
        ("openai:gpt-5.6-sol", "openai-explicit", 1024, 1, 1800),
        ("openai:gpt-6.1-sol", "openai-explicit", 1024, 1, 1800),
        ("openai:gpt-6-luna", "openai-explicit", 1024, 1, 1800),
        ("openai:gpt-10-sol", "openai-explicit", 1024, 1, 1800),
        ("openai:gpt-5.5", "openai-auto", 1024, 128, 300),
        ("openai:gpt-5", "openai-auto", 1024, 128, 300),
        ("openai:gpt-4.1-mini", "openai-auto", 1024, 128, 300),
        ("openai:gpt-4o-2024-08-06", "openai-auto", 1024, 128, 300),
        ("openai:o3", "openai-auto", 1024, 128, 300),
        ("openai:gpt-3.5-turbo", "none", 0, 1, 0),
        ("openai-compatible:qwen3-8b", "prefix", 128, 128, 300),
        ("student:support-v3", "prefix", 128, 128, 300),
        ("openai-compatible:deepseek-v4-pro", "prefix", 128, 128, 3600),
    ],
)
def test_each_family_has_its_rules(model, family, minimum, step, ttl_s):
    rules = semantics(model)
    assert rules.family == family
    assert (rules.minimum, rules.granularity, rules.ttl_s) == (minimum, step, ttl_s)
    assert rules.source


def test_an_unlisted_model_gets_the_most_cautious_row_of_its_vendor():
    assert not known("anthropic:claude-new-9")
    assert semantics("anthropic:claude-new-9").minimum == 4096
    assert semantics("anthropic:claude-new-9").read_multiplier == Decimal("0.1")
    assert not known("openai-compatible:qwen3-8b")
    assert semantics("openai-compatible:qwen3-8b").read_multiplier == 1
    assert not known("elsewhere:thing")
    assert semantics("elsewhere:thing").family == "prefix"


def test_a_vendors_own_model_is_itself_behind_a_compatible_endpoint():
    assert semantics("openai-compatible:gpt-4o") == semantics("openai:gpt-4o")
    assert listed_as("openai-compatible:qwen3-8b") == "openai-compatible:qwen3-8b"
    assert (
        listed_as("openai-compatible:openai/gpt-oss-20b") == "openai-compatible:openai/gpt-oss-20b"
    )


LISTED = [
    "anthropic:claude-opus-5-5",
    "anthropic:claude-fable-5-1",
    "anthropic:claude-haiku-5-5",
    "anthropic:claude-haiku-4-5",
    "anthropic:claude-sonnet-4-5",
    "openai:gpt-6.1-sol",
    "openai:gpt-6-luna",
    "openai:gpt-5.5",
    "openai:gpt-5.1",
    "openai:gpt-4.1",
    "openai:gpt-4o",
]


@pytest.mark.parametrize("model", LISTED)
def test_multipliers_and_cliffs_agree_with_the_price_list(model):
    rules, book = semantics(model), PriceBook()
    price = book.price(model, at=1_795_000_000)
    assert price.read == price.input * rules.read_multiplier
    assert price.write == price.input * rules.write_multiplier
    assert price.write_long == price.input * rules.long_write_multiplier
    cliff = rules.cliff or 10_000_000
    assert book.price(model, at=1_795_000_000, input_tokens=cliff) == price
    above = book.price(model, at=1_795_000_000, input_tokens=cliff + 1)
    assert (above.input > price.input) == (rules.cliff is not None)
