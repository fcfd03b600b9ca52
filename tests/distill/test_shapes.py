import json

from agentmesh.distill.scene import scene_of
from agentmesh.distill.shapes import learn, make, take


def user(text, *, told=None):
    messages = [{"role": "user", "content": text}]
    if told is not None:
        call = {"id": "c", "function": {"name": "look", "arguments": "{}"}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": "c", "content": json.dumps(told)})
    return scene_of(messages)


def call(name, **arguments):
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": function}]}


def arguments(message):
    return json.loads(message["tool_calls"][0]["function"]["arguments"])


def taught(pairs):
    taken = [take(answer, scene) for answer, scene in pairs]
    assert len({one.shape for one in taken}) == 1
    return taken[0].shape, learn([one.values for one in taken], [scene for _, scene in pairs])


def test_an_argument_may_be_a_text_with_values_in_it():
    asks = ("I want a human.", "Let me speak to somebody.", "Is anybody there at all?")
    shape, slots = taught(
        [
            (call("hand_over", topic="other", text=f"The customer wrote: {ask}"), user(ask))
            for ask in asks
        ]
    )
    made = make(shape, slots, user("Get me a person, please."))
    assert arguments(made) == {
        "topic": "other",
        "text": "The customer wrote: Get me a person, please.",
    }


def test_a_rare_source_is_kept_where_the_usual_one_is_not_there():
    pairs = [
        (call("status", order=f"W-{n}"), user(f"where is W-{n}", told={"last": "W-0"}))
        for n in range(100, 150)
    ]
    pairs += [
        (call("status", order=f"W-{n}"), user("where is it", told={"last": f"W-{n}"}))
        for n in range(200, 203)
    ]
    shape, slots = taught(pairs)
    assert arguments(make(shape, slots, user("and W-7?", told={"last": "W-8"}))) == {"order": "W-7"}
    assert arguments(make(shape, slots, user("and now?", told={"last": "W-8"}))) == {"order": "W-8"}
    assert make(shape, slots, user("and now?")) is None


def test_a_source_that_is_often_wrong_is_not_looked_at():
    pairs = [
        (call("look", city="Graz"), user(f"to {city} or Graz"))
        for city in ("Linz", "Wien", "Köln", "Bern")
    ]
    shape, slots = taught(pairs)
    assert arguments(make(shape, slots, user("to Rome or Graz"))) == {"city": "Graz"}
    assert arguments(make(shape, slots, user("to Rome or Oslo"))) == {"city": "Oslo"}


def test_of_two_sources_that_are_right_the_last_tool_s_is_taken():
    def paid(price, amount):
        messages = [{"role": "user", "content": "it is broken"}]
        for name, told in (("look", {"price": price}), ("refund", {"amount": amount})):
            call = {"id": name, "function": {"name": name, "arguments": "{}"}}
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
            result = {"role": "tool", "tool_call_id": name, "content": json.dumps(told)}
            messages.append(result)
        return scene_of(messages)

    shape, slots = taught(
        [
            (
                {"role": "assistant", "content": f"I refunded {n}.90 EUR."},
                paid(f"{n}.90", f"{n}.90"),
            )
            for n in range(20, 26)
        ]
    )
    assert make(shape, slots, paid("9.90", "19.80"))["content"] == "I refunded 19.80 EUR."
