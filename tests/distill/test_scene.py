import json

import pytest

from agentmesh.distill.scene import Source, form, scene_of


def said(*texts, results=(), system=""):
    messages = [{"role": "system", "content": system}] if system else []
    for text in texts[:-1]:
        messages += [{"role": "user", "content": text}, {"role": "assistant", "content": "Well?"}]
    messages.append({"role": "user", "content": texts[-1]})
    for number, (name, value) in enumerate(results):
        call = {"id": f"c{number}", "function": {"name": name, "arguments": "{}"}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        told = {"role": "tool", "tool_call_id": f"c{number}", "content": json.dumps(value)}
        messages.append(told)
    return messages


@pytest.mark.parametrize(
    ("text", "value", "key"),
    [
        ("Wo ist meine Bestellung W-36141?", "W-36141", "A-9@0"),
        ("Has W-45661 shipped yet?", "W-45661", "A-9@-1"),
        ("update my address: Park Road 24, LS1 4DT Leeds. Hurry.", "LS1 4DT", "A9 9A@0"),
        ("update my address: Park Road 24, LS1 4DT Leeds. Hurry.", "Park Road 24", "Aa Aa 9@0"),
        ("It goes to Hafenstraße 8, 8020 Graz", "Hafenstraße 8", "Aa 9@0"),
        ("It goes to Hafenstraße 8, 8020 Graz", "8020", "9@-1"),
        ("is the Rain Jacket Dale in stock", "Rain Jacket Dale", "Aa Aa Aa@0"),
        ("write to mia.b@shop.com", "mia.b@shop.com", "a.a@a.a@0"),
    ],
)
def test_what_a_customer_writes_is_found_by_its_form(text, value, key):
    assert scene_of(said(text)).values[Source("now", key)] == value


def test_a_capital_that_only_begins_a_sentence_names_nothing():
    assert scene_of(said("Please help. Where is it")).sources("Please") == ()


def test_forms_know_letters_of_any_language():
    assert form("Straße 12") == form("Weg 7") == "Aa 9"
    assert form("Größe") == "Aa"


def test_messages_are_values_as_a_whole_the_latest_first():
    scene = scene_of(said("Can I get a discount?", "I insist, it must be possible.", "yes"))
    assert Source("before", "0") not in scene.values  # one word is a value already
    assert scene.values[Source("before", "1")] == "I insist, it must be possible."
    assert scene.values[Source("before", "2")] == "Can I get a discount?"


def test_a_row_is_found_by_its_state_and_by_what_the_customer_calls_it():
    orders = [
        {"order": "W-1", "status": "shipped", "articles": ["Rain Jacket Dale"]},
        {"order": "W-2", "status": "delivered", "articles": ["Trekking Poles Elm"]},
        {"order": "W-3", "status": "delivered", "articles": ["Head Torch Elm"]},
    ]
    scene = scene_of(said("the pole is broken", results=[("list_orders", {"orders": orders})]))
    assert scene.values[Source("result", "list_orders/orders/status=shipped/order")] == "W-1"
    assert Source("result", "list_orders/orders/status=delivered/order") not in scene.values
    assert scene.values[Source("result", "list_orders/orders/named/order")] == "W-2"
    assert "rows_list_orders_orders_n_status_delivered_2" in scene.text()


def test_results_of_earlier_turns_are_values_but_do_not_describe_this_one():
    before = said("where is it", results=[("order_status", {"order": "W-1", "status": "shipped"})])
    messages = [*before, {"role": "assistant", "content": "On its way. Anything else?"}]
    scene = scene_of([*messages, {"role": "user", "content": "thanks"}])
    assert scene.values[Source("result", "order_status/order")] == "W-1"
    assert "got_order_status_status_shipped" not in scene.text()
    assert "last_asked" in scene.text()
    assert "got_order_status_status_shipped" in scene_of(before).text()


def test_what_came_of_a_tool_is_read_beside_each_kind_of_customer():
    messages = said(
        "where is it", system="language: german", results=[("track", {"state": "lost"})]
    )
    assert "language_german_got_track_state_lost" in scene_of(messages).text()
