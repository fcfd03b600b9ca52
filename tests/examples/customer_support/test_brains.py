"""The stand-ins, over HTTP with the vendors' own SDKs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from agentmesh.emulator import Call, Message, Request
from agentmesh.examples.customer_support.brains import BRAINS, flagship, standard, student
from agentmesh.examples.customer_support.shop import Shop, write
from agentmesh.examples.customer_support.tools import CHECKS, desk
from agentmesh.routing import CheckContext, Draft, DraftCall, ToolFacts, default_checks, run_checks
from agentmesh.testing import emulator
from agentmesh.tools import spec


def request(*messages: Message, system: str = "") -> Request:
    return Request("messages", "m", system, messages, (), 100, "k", {})


def said(text: str) -> Message:
    return Message("user", text)


def order(**values: Any) -> str:
    row = {
        "order": "W-10101",
        "status": "delivered",
        "placed_on": "2026-11-01",
        "delivered_on": "2026-11-05",
        "returnable_until": "2026-12-05",
        "as_of": "2026-11-16",
        "lines": [{"product": "P-1", "name": "Pot Set Elm", "quantity": 2, "price": "60.00"}],
        "total": "124.90",
        "refunded": "0.00",
        "returns": [],
    }
    return json.dumps({**row, **values})


def result(number: int, name: str, arguments: dict[str, Any], text: str) -> tuple[Message, Message]:
    call = Call(f"c{number}", name, json.dumps(arguments))
    return Message("assistant", "", (call,)), Message("tool", text, (), f"c{number}")


def test_looks_up_decides_acts_and_reports() -> None:
    words = said("The pot set of W-10101 arrived broken")
    first = flagship(request(words))
    assert first.calls == [("order_status", {"order": "W-10101"})]
    looked = result(1, "order_status", {"order": "W-10101"}, order())
    second = flagship(request(words, *looked))
    refund = {"order": "W-10101", "amount": 120.0, "reason": "damaged"}
    assert second.calls == [("refund", refund)]
    paid = result(
        2, "refund", refund, json.dumps({"order": "W-10101", "amount": "120.00", "arrives": "soon"})
    )
    third = flagship(request(words, *looked, *paid))
    back = {"order": "W-10101", "product": "P-1", "reason": "damaged", "quantity": 2}
    assert third.calls == [("return_item", back)]
    sent = result(3, "return_item", back, json.dumps({"return": "9"}))
    last = flagship(request(words, *looked, *paid, *sent))
    assert not last.calls
    assert "120.00 EUR" in last.text
    assert "number 9" in last.text


def test_a_refused_refund_is_handed_over_and_not_claimed() -> None:
    words = said("The pot set of W-10101 arrived broken")
    refund = {"order": "W-10101", "amount": 120.0, "reason": "damaged"}
    answer = flagship(
        request(
            words,
            *result(1, "order_status", {"order": "W-10101"}, order()),
            *result(2, "refund", refund, "Refused by a person."),
        )
    )
    assert [name for name, _ in answer.calls] == ["hand_over"]


def test_asks_for_what_is_missing_and_understands_the_answer() -> None:
    words = said("I moved, please change my address")
    asked = flagship(request(words))
    assert asked.text.endswith("?")
    reply = said("12 Mill Lane, LS1 4DT Leeds")
    answer = flagship(request(words, Message("assistant", asked.text), reply))
    new = {"street": "12 Mill Lane", "postcode": "LS1 4DT", "city": "Leeds"}
    assert answer.calls == [("change_address", new)]


def test_settles_two_wishes_side_by_side() -> None:
    answer = flagship(request(said("Cancel W-10101. And what are your opening hours?")))
    assert [name for name, _ in answer.calls] == ["order_status", "search_help"]


def test_speaks_the_profiles_language_and_greets_by_name_once() -> None:
    system = '<profile>\nAbout this user:\nlanguage: "German"\nname: "Ida Vogt"\n</profile>'
    first = flagship(request(said("write me a poem"), system=system))
    assert first.text.startswith("Guten Tag Ida,")
    later = flagship(
        request(said("a poem"), Message("assistant", first.text), said("a joke"), system=system)
    )
    assert "Ida" not in later.text
    note = '<memory-update>\nprofile.language: "Spanish" [said by the user]\n</memory-update>'
    changed = flagship(request(said("thanks"), Message("user", note), system=system))
    assert changed.text.startswith("Hola, Ida:")


def test_a_note_on_a_refused_draft_is_not_taken_for_the_customers_words() -> None:
    note = "Your previous draft was not used:\n- the answer is empty\nAnswer again."
    told = flagship(request(said("Where is W-10101?"), said(note)))
    assert told.calls == [("order_status", {"order": "W-10101"})]


@pytest.mark.parametrize(
    "text",
    ["", "   ", "?", "W-", "\ud800", "{name}", "a" * 50_000, "cancel " * 500, "W-10101 " * 400],
)
def test_every_brain_answers_anything(text: str) -> None:
    for brain in (flagship, standard, student):
        answer = brain(request(said(text)))
        assert answer.text or answer.calls or brain is not flagship


def test_the_student_does_the_simple_and_the_checks_catch_most_of_the_rest(
    shop: Shop, tmp_path: Path
) -> None:
    assert student(request(said("Where is W-10101?"))).calls == [
        ("order_status", {"order": "W-10101"})
    ]
    assert student(request(said("When are you open?"))).calls[0][0] == "search_help"
    with_tools = desk(write(shop, tmp_path / "shop.db"))
    facts = {
        made.name: ToolFacts(json.loads(made.parameters)) for made in map(spec, with_tools.tools())
    }
    with_tools.close()
    kinds: set[str] = set()
    passed = 0
    texts = [
        f"The {noun} of W-1010{digit} is broken" for noun in "abcdefghij" for digit in range(9)
    ]
    for text in texts:
        answer = student(request(said(text)))
        calls = tuple(
            DraftCall(str(i), name, args if isinstance(args, str) else json.dumps(args))
            for i, (name, args) in enumerate(answer.calls)
        )
        stop: Any = answer.stop or ("tools" if calls else "end")
        failure = run_checks(
            (*default_checks(), *CHECKS),
            Draft(answer.text, calls, stop),
            CheckContext(tools=facts, seen=text),
        )
        passed += failure is None
        kinds |= {failure.check} if failure else set()
    assert kinds == {
        "arguments",
        "backed_claim",
        "known_tool",
        "not_empty",
        "stop",
        "traceable",
    }
    assert 0 < passed < len(texts) // 4


def test_answers_over_all_three_apis() -> None:
    tools = [{"name": "order_status", "input_schema": {"type": "object", "properties": {}}}]
    words = "Where is my order W-10101?"
    with emulator(BRAINS) as server:
        with anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0) as client:
            message = client.messages.create(
                model="claude-opus-5-5",
                max_tokens=200,
                tools=tools,  # type: ignore[arg-type]
                messages=[{"role": "user", "content": words}],
            )
        assert message.stop_reason == "tool_use"
        with openai.OpenAI(base_url=server.openai_url, api_key="k", max_retries=0) as client:
            done = client.chat.completions.create(
                model="desk-student",
                tools=[
                    {
                        "type": "function",
                        "function": {"name": "order_status", "parameters": {"type": "object"}},
                    }
                ],
                messages=[{"role": "user", "content": words}],
            )
        call = (done.choices[0].message.tool_calls or [])[0]
        assert call.type == "function"
        assert json.loads(call.function.arguments) == {"order": "W-10101"}
        assert [bill.status for bill in server.bills] == [200, 200]
