import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh import routing
from agentmesh.errors import ConfigError
from agentmesh.routing import Draft, DraftCall, ToolFacts, read_examples
from agentmesh.routing.evidence import draft_evidence
from agentmesh.routing.features import GRAMS, READ_CHARS, SURFACE, readable, stems, surface


def test_everything_that_is_promised_is_there():
    assert len(routing.__all__) == len(set(routing.__all__))
    for name in routing.__all__:
        assert getattr(routing, name) is not None
    with pytest.raises(AttributeError):
        routing.nothing  # noqa: B018  # the lookup is the point


@given(st.text(max_size=400))
def test_surface_features_stay_within_0_and_1(text):
    values = surface(text)
    assert len(values) == len(SURFACE)
    assert all(0 <= value <= 1 for value in values)


def test_long_texts_are_read_at_both_ends():
    text = "a" * READ_CHARS + "the end"
    assert len(readable(text)) <= READ_CHARS + 1
    assert readable(text).endswith("the end")


def test_words_lose_their_endings_and_numbers_their_value():
    assert stems("Charged twice: 3 fees, 25 cards!") == [
        "charg",
        "twice",
        "0",
        "fee",
        "0",
        "card",
        "!",
    ]
    assert stems("is his bus red?") == ["is", "his", "bus", "red", "?"]


def test_pairs_stand_in_any_order_up_to_a_distance_once():
    first = list(GRAMS["pairs"]("card fee card", 1, 2))
    assert first == list(GRAMS["pairs"]("fee card", 1, 2)) == ["card&fee"]
    assert "a&d" not in set(GRAMS["pairs"]("a b c d", 1, 2))
    assert set(GRAMS["pairs"]("a b c", 1, 2)) == {"a&b", "b&c", "a&c"}


@given(st.text(max_size=80), st.text(max_size=60))
def test_evidence_takes_any_question_and_any_arguments(question, arguments):
    rng = random.Random(len(question))
    tools = {"t": ToolFacts({"properties": {"a": {"type": rng.choice(["string", "array"])}}})}
    for raw in (arguments, json.dumps({"a": arguments}), json.dumps({"a": [1, {"b": None}]})):
        found = draft_evidence(question, Draft("x", (DraftCall("1", "t", raw),)), tools)
        assert all(0 <= value <= 1 for value in found.values())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no examples"),
        ("{broken\n", ":1: not an example"),
        ('{"text": "a"}\n', "label is missing"),
        ('{"label": "simple"}\n', "not an example"),
    ],
)
def test_names_the_line_that_is_no_example(tmp_path, content, message):
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_examples(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_examples(tmp_path / "none.jsonl")
