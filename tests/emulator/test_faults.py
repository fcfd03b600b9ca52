"""What goes wrong at vendors, as their SDKs see it."""

import time

import anthropic
import openai
import pytest

from agentmesh.testing import Answer, Fault

HI = [{"role": "user", "content": "Hi"}]
CALLS = {
    "messages": lambda c, **kw: c.messages.create(
        model="claude-opus-5-5", max_tokens=900, messages=HI, **kw
    ),
    "responses": lambda c, **kw: c.responses.create(model="gpt-6.1-sol", input="Hi", **kw),
    "chat": lambda c, **kw: c.chat.completions.create(model="gpt-4o", messages=HI, **kw),
}
APIS = pytest.mark.parametrize("api", CALLS)
CLOSING = {
    "messages": "message_stop",
    "responses": "response.completed",
    "chat": "finish_reason",
}


@pytest.fixture
def client(connect):
    def client(api, server):
        return connect("anthropic" if api == "messages" else "openai", server)

    return client


def failing(fault, text="word " * 100):
    return lambda request: Answer(text, fault=fault)


def library(api):
    return anthropic if api == "messages" else openai


@APIS
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, "AuthenticationError"),
        (403, "PermissionDeniedError"),
        (404, "NotFoundError"),
        (429, "RateLimitError"),
        (500, "InternalServerError"),
        (503, "InternalServerError"),
        (529, "InternalServerError"),
    ],
)
def test_a_status_is_the_sdks_error(start, client, api, status, error):
    server = start(failing(Fault("status", status=status, message="no luck", retry_after_s=2.5)))
    with pytest.raises(Exception, match="no luck") as caught:
        CALLS[api](client(api, server))
    # 529 has a class of its own in one of the SDKs
    assert isinstance(caught.value, getattr(library(api), error))
    assert caught.value.response.headers["retry-after"] == "2.5"
    (bill,) = server.bills
    assert (bill.status, bill.cost_micro) == (status, 0)


@APIS
@pytest.mark.parametrize("stream", [False, True])
def test_a_status_says_what_the_vendor_calls_it(start, client, api, stream):
    server = start(failing(Fault("status", status=429)))
    with pytest.raises(library(api).RateLimitError) as caught:
        CALLS[api](client(api, server), stream=stream)
    body = caught.value.response.json()["error"]
    assert body["type"] == ("rate_limit_error" if api == "messages" else "rate_limit_exceeded")


@APIS
@pytest.mark.parametrize("stream", [False, True])
def test_a_reset_before_the_first_byte(start, client, api, stream):
    server = start(failing(Fault("reset", after=0)))
    with pytest.raises(library(api).APIConnectionError):
        CALLS[api](client(api, server), stream=stream)
    assert server.bills == []
    assert server.errors == []


@APIS
def test_a_reset_in_mid_stream(start, client, api):
    server = start(failing(Fault("reset", after=4)))
    got = []
    # one SDK lets its transport's own error through, the other wraps it
    with (
        CALLS[api](client(api, server), stream=True) as stream,
        pytest.raises(Exception, match=r"(?i)reset|peer|connection"),
    ):
        got.extend(stream)
    assert len(got) <= 4
    assert server.bills[0].fault == "reset"
    assert server.bills[0].usage.output < 125


@APIS
def test_a_stream_that_is_cut_ends_cleanly_without_its_last_event(start, client, api):
    server = start(failing(Fault("cut")))
    with CALLS[api](client(api, server), stream=True) as stream:
        events = list(stream)
    assert events
    assert CLOSING[api] not in {getattr(event, "type", "") for event in events}
    if api == "chat":
        assert all(event.choices[0].finish_reason is None for event in events)
    (bill,) = server.bills
    assert bill.fault == "cut"
    assert 0 < bill.usage.output < 125


@APIS
def test_a_body_that_is_cut_cannot_be_read(start, client, api):
    server = start(failing(Fault("cut")))
    # the SDKs leave half a JSON body to the caller as a decoding error
    with pytest.raises((library(api).APIError, ValueError)):
        CALLS[api](client(api, server))


@APIS
def test_an_error_in_mid_stream_is_raised(start, client, api):
    server = start(failing(Fault("error", message="Overloaded here", after=4)))
    with CALLS[api](client(api, server), stream=True) as stream:
        if api == "responses":  # this SDK hands the event over
            last = list(stream)[-1]
            assert (last.type, last.message) == ("error", "Overloaded here")
        else:
            with pytest.raises(library(api).APIError, match="Overloaded here"):
                list(stream)
    assert server.bills[0].fault == "error"


@APIS
def test_an_error_without_a_stream_is_a_status(start, client, api):
    server = start(failing(Fault("error", status=500)))
    with pytest.raises(library(api).InternalServerError):
        CALLS[api](client(api, server))


@APIS
@pytest.mark.parametrize("stream", [False, True])
def test_a_drip_takes_its_time_and_is_billed_whole(start, client, api, stream):
    server = start(failing(Fault("drip", delay_s=0.15), text="word"))
    began = time.monotonic()
    answer = CALLS[api](client(api, server).with_options(timeout=20), stream=stream)
    if stream:
        with answer:
            assert list(answer)
    assert time.monotonic() - began > 0.2
    assert server.bills[0].usage.output == 1


@APIS
def test_a_delay_runs_into_the_clients_timeout(start, client, api):
    server = start(failing(Fault("delay", delay_s=0.5)))
    with pytest.raises(library(api).APITimeoutError):
        CALLS[api](client(api, server).with_options(timeout=0.1))


def test_a_fault_can_pass(start, client):
    """Faults are the brain's choice, answer by answer."""
    tries = []

    def brain(request):
        tries.append(request)
        return Answer("ok", fault=Fault("status") if len(tries) < 3 else None)

    one = client("messages", start(brain)).with_options(max_retries=2)
    assert CALLS["messages"](one).content[0].text == "ok"
    assert len(tries) == 3


@APIS
def test_a_failed_request_leaves_no_cache_entry(start, client, api):
    faults = [Fault("status"), Fault("reset", after=0), None]
    server = start(lambda request: Answer("ok", fault=faults.pop(0)))
    one = client(api, server)
    for _ in range(2):
        with pytest.raises(library(api).APIError):
            send_long(api, one)
    send_long(api, one)
    assert server.bills[-1].usage.read == 0


def send_long(api, client):
    text = "x" * 8_000
    if api == "messages":
        system = [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]
        return CALLS[api](client, system=system)
    if api == "responses":
        return CALLS[api](client, instructions=text)
    messages = [{"role": "system", "content": text}, *HI]
    return client.chat.completions.create(model="gpt-4o", messages=messages)
