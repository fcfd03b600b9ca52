import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.distill.redact import Redactor, luhn
from agentmesh.distill.traces import Trace
from agentmesh.errors import ConfigError

KEY = "a long secret key"
NAMES = ["Mia Li", "John Smith", "Ana"]
redactor = Redactor(KEY, names=NAMES)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("email", "mia.li+shop@example.co.uk"),
        ("phone", "+49 170 1234567"),
        ("phone", "555-123-2002"),
        ("phone", "(555) 123-2002"),
        ("phone", "0170 1234567"),
        ("card", "4111 1111 1111 1111"),
        ("card", "5500005555555559"),
        ("name", "mia LI"),
        ("name", "Smith"),
    ],
)
def test_personal_data_is_found_and_replaced(kind, text):
    sentence = f"It is {text}, please."
    assert (kind, text) in redactor.find(sentence)
    redacted = redactor.text(sentence)
    assert text.lower() not in redacted.lower()
    assert redacted.startswith("It is ")
    assert redacted.endswith(", please.")
    assert redactor.text(sentence) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "order #W2378156 of 2024-05-15 15:00:00",
        "reservation EHGLP3, flight HAT069",
        "that is 1,234,567.89 dollars",
        "card 4111 1111 1111 1112 is mistyped",
        "version 10.20.30.40 and anaconda",
        "customer C1001, line L1002",
    ],
)
def test_what_is_not_personal_stays(text):
    assert redactor.text(text) == text
    assert redactor.find(text) == []


def test_the_same_value_has_one_pseudonym_however_it_is_written():
    one = redactor.text("Mia@Shop.com")
    assert (
        redactor.text("mia@shop.com")
        == one
        != Redactor("another key!", names=[]).text("mia@shop.com")
    )
    digits = {
        "".join(filter(str.isdigit, redactor.text(t))) for t in ("555-123-2002", "555.123.2002")
    }
    assert len(digits) == 1
    names = {redactor.text(name) for name in ("Mia Li", "John Smith")}
    assert len(names) == 2
    assert redactor.text("Mia") == redactor.text("Mia Li").split()[0]
    assert luhn(redactor.text("4111 1111 1111 1111"))


def test_a_trace_stays_consistent_from_the_customer_to_the_tool():
    asked = {"role": "user", "content": "I am Mia Li, mia@shop.com"}
    arguments = json.dumps({"email": "mia@shop.com", "name": "Mia Li"})
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": arguments}}
    answer = {"role": "assistant", "content": None, "tool_calls": [call]}
    trace = Trace("t", "c", "mia_li_3668", 1, 1, (asked,), (), answer, "rules:desk")
    redacted = redactor.trace(trace)
    made = json.loads(redacted.answer["tool_calls"][0]["function"]["arguments"])
    assert redacted.prompt[0]["content"] == f"I am {made['name']}, {made['email']}"
    assert "shop.com" not in str(redacted.prompt)
    assert redacted.customer not in ("", "mia_li_3668")
    assert redacted.answer["tool_calls"][0]["id"] == "c1"
    other = redactor.trace(replace(trace, customer="someone"))
    assert other.customer != redacted.customer


@given(st.text(max_size=60), st.integers(0, 9))
def test_json_stays_json(words, digit):
    value = {"a": words, "b": [f"mia{digit}@shop.com", f"+4917012345{digit}7"], "c": digit}
    redacted = json.loads(redactor.text(json.dumps(value, ensure_ascii=False)))
    assert set(redacted) == set(value)
    assert redacted["c"] == digit


def test_a_short_key_is_refused():
    with pytest.raises(ConfigError, match="too short"):
        Redactor("short")
