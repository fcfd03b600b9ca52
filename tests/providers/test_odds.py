import pytest

from agentmesh.providers import connect

URL = "http://127.0.0.1:9/v1"
TOLD = [{"token": "It", "logprob": -0.1}, {"token": "is", "logprob": -0.3}, {"token": "x"}, 7]


def completion(logprobs, *, field="message"):
    choice = {"index": 0, field: {"role": "assistant", "content": "It is"}, "logprobs": logprobs}
    return {"id": "1", "model": "m", "choices": [{**choice, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("logprobs", "mean"),
    [({"content": TOLD}, -0.2), (None, None), ({"content": None}, None), ({"refusal": []}, None)],
)
def test_chat_completions_tell_the_mean(logprobs, mean):
    model = connect("openai-compatible:m", base_url=URL, logprobs=True)
    assert model.body([])["logprobs"] is True
    said = model._parse(completion(logprobs), "")
    assert said.response_metadata.get("logprob") == pytest.approx(mean)
    reader = model._reader()
    first = completion(logprobs, field="delta")
    first["choices"][0]["finish_reason"] = None
    list(reader.feed(first))
    list(reader.feed(completion(None, field="delta")))
    assert reader.metadata.get("logprob") == pytest.approx(mean)


def test_responses_tell_the_mean_too():
    part = {"type": "output_text", "text": "It is", "annotations": [], "logprobs": TOLD}
    value = {"id": "1", "status": "completed", "model": "m"}
    value["output"] = [{"id": "i", "type": "message", "role": "assistant", "content": [part]}]
    model = connect("openai:gpt-6.1-sol", base_url=URL)
    assert model._parse(value, "").response_metadata["logprob"] == pytest.approx(-0.2)
