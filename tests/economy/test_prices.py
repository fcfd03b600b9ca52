"""Prices: from the list, from an overlay, from a file; unknown is never zero."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import genai_prices
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.economy import Price, PriceBook, Usage
from agentmesh.errors import ConfigError

NOW = 1_795_000_000.0
OPUS = "anthropic:claude-opus-5-5"


def test_a_list_price_is_billed_by_kind():
    usage = Usage(fresh=1_000, read=10_000, write=500, write_long=20, output=300)
    by_hand = 4 * 1_000 + Decimal("0.2") * 10_000 + 5 * 500 + 8 * 20 + 20 * 300
    assert PriceBook().cost(OPUS, usage, NOW) == by_hand


@given(
    st.sampled_from([OPUS, "anthropic:claude-haiku-5-5", "openai:gpt-6.1-sol", "openai:gpt-4o"]),
    st.tuples(*[st.integers(0, 400_000)] * 4),
)
def test_agrees_with_the_price_list_own_arithmetic(model, tokens):
    fresh, read, write, output = tokens
    if model == "openai:gpt-4o":
        write = 0
    vendor, name = model.split(":")
    theirs = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=fresh + read + write,
            cache_read_tokens=read,
            cache_write_tokens=write,
            output_tokens=output,
        ),
        name,
        provider_id=vendor,
        genai_request_timestamp=datetime.fromtimestamp(NOW, UTC),
    )
    ours = PriceBook().cost(model, Usage(fresh, read, write, 0, output), NOW)
    assert abs(ours - theirs.total_price * 1_000_000) <= Decimal("0.5")


def test_the_price_is_that_of_the_day():
    book = PriceBook()
    before = book.price("openai:gpt-5.6-sol", at=datetime(2026, 8, 20, tzinfo=UTC))
    after = book.price("openai:gpt-5.6-sol", at=datetime(2026, 8, 22, tzinfo=UTC))
    assert (before.input, after.input) == (5, 4)


def test_a_long_prompt_costs_more_as_a_whole():
    book = PriceBook()
    below = book.cost("anthropic:claude-haiku-5-5", Usage(fresh=100_000), NOW)
    above = book.cost("anthropic:claude-haiku-5-5", Usage(fresh=1, read=100_000), NOW)
    assert (below, above) == (10_000, 5_000)  # read at .05 instead of .01


@pytest.mark.parametrize("model", ["openai-compatible:qwen3-8b", "anthropic:nonsense", "x:y", "z"])
def test_an_unknown_price_is_none(model):
    assert PriceBook().cost(model, Usage(fresh=5)) is None
    assert PriceBook().price(model) is None
    assert PriceBook().window(model) is None


def test_an_overlay_goes_first_and_is_completed_from_the_cache_semantics():
    book = PriceBook({OPUS: Price(1, 2), "student:v1": Price("0.02", 0.06, read="0.002")})
    assert book.price(OPUS) == Price(1, 2, "0.05", "1.25", 2)
    assert book.cost("student:v1", Usage(fresh=1_000, read=1_000, output=100)) == 28


def test_a_free_model_is_free_but_not_unknown():
    assert PriceBook({"student:v1": Price(0, 0)}).cost("student:v1", Usage(fresh=5)) == 0


def test_a_file_is_an_overlay(tmp_path):
    path = tmp_path / "prices.json"
    path.write_text('{"student:v1": {"input": 0.1, "output": 0.3, "read": 0.01}}')
    price = PriceBook.from_file(path).price("student:v1")
    assert (price.input, price.read) == (Decimal("0.1"), Decimal("0.01"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not JSON"),
        ("[1]", "holds no object"),
        ('{"student:v1": 3}', "'student:v1' is 3"),
        ('{"student:v1": {"input": 1}}', "'student:v1'"),
        ('{"student:v1": {"input": 1, "output": 2, "reed": 3}}', "reed"),
        ('{"student:v1": {"input": -1, "output": 2}}', "'student:v1': price 'input' is -1"),
        ('{"student:v1": {"input": "much", "output": 2}}', "'much'"),
        ('{"student:v1": {"input": NaN, "output": 2}}', "price 'input' is nan"),
        ('{"student:v1": {"input": true, "output": 2}}', "price 'input' is True"),
        ('{"student": {"input": 1, "output": 2}}', "'student'"),
    ],
)
def test_a_malformed_file_is_named_with_a_hint(tmp_path, content, says):
    path = tmp_path / "prices.json"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        PriceBook.from_file(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_a_missing_or_binary_file_is_named_with_a_hint(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        PriceBook.from_file(tmp_path / "none.json")
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not JSON"):
        PriceBook.from_file(tmp_path / "b")


@pytest.mark.parametrize("overlay", [{"noprefix": Price(1, 2)}, {"a:b": 3}, {5: Price(1, 2)}])
def test_a_malformed_overlay_is_refused(overlay):
    with pytest.raises(ConfigError) as caught:
        PriceBook(overlay)
    assert caught.value.hint


def test_an_incomplete_price_does_not_pretend():
    with pytest.raises(ConfigError, match="incomplete"):
        Price(1, 2).cost(Usage(fresh=1))


def test_a_price_prints_and_compares_as_a_value():
    assert Price(1, "2") == Price("1", 2.0)
    assert len({Price(1, 2), Price("1", "2")}) == 1
    assert "Decimal('1')" in repr(Price(1, 2))
    assert json.dumps(str(Price("0.1", 1).input)) == '"0.1"'
