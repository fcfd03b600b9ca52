"""Recorded conversations as brains."""

import httpx
import pytest

from agentmesh.errors import InputError
from agentmesh.testing import Recording, Recordings


def call(name, arguments="{}", id_="c1"):
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def assistant(text=None, *calls):
    return {"role": "assistant", "content": text, **({"tool_calls": list(calls)} if calls else {})}


CONVERSATION = [
    {"role": "system", "content": "Be kind."},
    assistant("Hello, how can I help?"),
    {"role": "user", "content": "Where are my orders?"},
    assistant("Let me see.", call("order", '{"id": "W1"}', "a"), call("order", '{"id":"W2"}', "b")),
    {"role": "tool", "tool_call_id": "b", "content": ""},
    {"role": "tool", "tool_call_id": "a", "content": "shipped"},
    assistant("W1 is shipped."),
    {"role": "user", "content": "Thanks"},
    assistant("Gladly."),
    {"role": "user", "content": "###STOP###"},
]


class Replay:
    """Speaks a recorded conversation to a server through Chat Completions."""

    def __init__(self, server, model="qwen3-8b"):
        self.client = httpx.Client(
            base_url=server.openai_url, headers={"authorization": "Bearer k"}
        )
        self.model = model
        self.history = []

    def hear(self, *messages):
        self.history.extend(messages)
        body = {"model": self.model, "messages": self.history}
        answer = self.client.post("/chat/completions", json=body)
        if answer.status_code != 200:
            return answer
        message = answer.json()["choices"][0]["message"]
        spoken = {k: message[k] for k in ("role", "content", "tool_calls") if k in message}
        self.history.append(spoken)
        return message


@pytest.fixture
def replay(start):
    opened = []

    def replay(brain):
        one = Replay(start(brain))
        opened.append(one)
        return one

    yield replay
    for one in opened:
        one.client.close()


def user(text):
    return {"role": "user", "content": text}


def results(message, *texts):
    return [
        {"role": "tool", "tool_call_id": one["id"], "content": text}
        for one, text in zip(message["tool_calls"], texts, strict=True)
    ]


@pytest.mark.parametrize("opening", [False, True])
def test_replays_what_was_said_and_called(replay, opening):
    one = replay(Recording(CONVERSATION))
    if opening:
        one.history.append(assistant("Hello, how can I help?"))
    asked = one.hear(user("Where are my orders?"))
    assert asked["content"] == "Let me see."
    assert [c["function"]["arguments"] for c in asked["tool_calls"]] == [
        '{"id": "W1"}',
        '{"id":"W2"}',
    ]
    assert one.hear(*results(asked, "shipped", ""))["content"] == "W1 is shipped."
    assert one.hear(user("Thanks"))["content"] == "Gladly."
    over = one.hear(user("###STOP###"))
    assert over.status_code == 400
    assert "has 3 assistant messages" in over.json()["error"]["message"]


def test_a_step_may_be_asked_for_twice(replay):
    one = replay(Recording(CONVERSATION))
    one.hear(user("Where are my orders?"))
    first = one.history.pop()
    assert one.hear()["content"] == first["content"]


@pytest.mark.parametrize(
    ("words", "told", "says"),
    [
        ("Where is my order?", None, "assistant message 1: the user's words differ at character 6"),
        (None, ("shipped", "x"), "assistant message 2: tool result 2 differ at character 0"),
        (None, ("", "shipped"), "assistant message 2: tool result 1 differ"),
    ],
)
def test_a_replay_that_strays_is_refused_by_name(replay, words, told, says):
    one = replay(Recording(CONVERSATION))
    answer = one.hear(user(words or "Where are my orders?"))
    if told:
        answer = one.hear(*results(answer, *told))
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]


def test_the_users_words_may_stand_beside_other_text(replay):
    parts = [{"type": "text", "text": t} for t in ("Where are my orders?", "(today is Monday)")]
    one = replay(Recording(CONVERSATION))
    assert one.hear({"role": "user", "content": parts})["content"] == "Let me see."


def test_many_recordings_find_their_own(replay):
    other = [user("Refund"), assistant("Which order?"), user("W1"), assistant("Done.")]
    brain = Recordings([CONVERSATION, other])
    one, two = replay(brain), replay(brain)
    one.hear(user("Where are my orders?"))
    assert two.hear(user("Refund"))["content"] == "Which order?"
    assert two.hear(user("W1"))["content"] == "Done."
    assert "no recording begins with" in replay(brain).hear(user("?")).json()["error"]["message"]


def test_recordings_that_begin_alike_take_turns(replay):
    common = [user("Refund"), assistant("Which order?"), user("W1")]
    brain = Recordings([[*common, assistant("Done.")], [*common, assistant("Denied.")]])
    heard = []
    for _ in range(4):
        one = replay(brain)
        one.hear(user("Refund"))
        heard.append(one.hear(user("W1"))["content"])
    assert heard == ["Done.", "Denied.", "Done.", "Denied."]


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([], "no user message"),
        ([assistant("Hi")], "no user message"),
        ([{"role": "bot", "content": "x"}], "message 0 has role 'bot'"),
        (["Hi"], "message 0 has role None"),
        ([user(5)], "content 5"),
        ([user("a"), {"role": "assistant", "tool_calls": [{"id": 1}]}], "message 1 has the tool"),
    ],
)
def test_a_broken_recording_is_named_with_a_hint(messages, says):
    with pytest.raises(InputError, match=says) as caught:
        Recording(messages)
    assert caught.value.hint
    with pytest.raises(InputError):
        Recordings([messages])


def test_no_recordings_are_refused():
    with pytest.raises(InputError, match="no recordings"):
        Recordings([])
