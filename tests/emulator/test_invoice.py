"""The invoice, end to end: what the SDKs report, what the bills say, what the rules ask for."""

import anthropic
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmesh.economy import PriceBook, Usage, count
from agentmesh.testing import Answer, emulator

SYSTEM = "policy " * 700  # 1,225 tokens
MARK = {"cache_control": {"type": "ephemeral"}}
BOOK = PriceBook()


def answer(request):
    return Answer(f"answer {len(request.messages)}")


def reported(usage):
    """Return what a vendor's response reports, in our form."""
    name = type(usage).__name__
    if name == "Usage":
        long = usage.cache_creation.ephemeral_1h_input_tokens
        write = usage.cache_creation.ephemeral_5m_input_tokens
        assert usage.cache_creation_input_tokens == write + long
        return Usage(
            usage.input_tokens, usage.cache_read_input_tokens, write, long, usage.output_tokens
        )
    if name == "ResponseUsage":
        details = usage.input_tokens_details
        split = details.cache_write_tokens_details
        fresh = usage.input_tokens - details.cached_tokens - details.cache_write_tokens
        return Usage(
            fresh,
            details.cached_tokens,
            split.ttl_30m_tokens,
            split.ttl_12h_tokens,
            usage.output_tokens,
        )
    details = usage.prompt_tokens_details
    write = details.cache_write_tokens or 0
    fresh = usage.prompt_tokens - details.cached_tokens - write
    return Usage(fresh, details.cached_tokens, write, 0, usage.completion_tokens)


class Talk:
    """A conversation through one of the APIs, with the marks that suit it."""

    def __init__(self, api, server):
        self.api = api
        if api == "messages":
            self.client = anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0)
        else:
            self.client = openai.OpenAI(base_url=server.openai_url, api_key="k", max_retries=0)
        self.said = []

    def say(self, words):
        self.said.append({"role": "user", "content": words})
        if self.api == "messages":
            done = self.client.messages.create(
                model="claude-opus-5",
                max_tokens=99,
                system=[{"type": "text", "text": SYSTEM, **MARK}],
                messages=self.said,
                **MARK,
            )
            text = done.content[0].text
        elif self.api == "responses":
            done = self.client.responses.create(
                model="gpt-6.1-sol", instructions=SYSTEM, input=self.said
            )
            text = done.output_text
        else:
            system = {"role": "system", "content": SYSTEM}
            done = self.client.chat.completions.create(
                model="gpt-4o", messages=[system, *self.said]
            )
            text = done.choices[0].message.content
        self.said.append({"role": "assistant", "content": text})
        return reported(done.usage)


TTL_S = {"messages": 300, "responses": 1800, "chat": 300}
APIS = pytest.mark.parametrize("api", TTL_S)


@APIS
def test_every_response_reports_what_its_bill_says(start, clock, api):
    server = start(answer, clock=clock)
    talk = Talk(api, server)
    with talk.client:
        for turn in range(12):
            clock.now += 200
            usage = talk.say(f"question {turn} " * 20)
            bill = server.bills[-1]
            assert usage == bill.usage
            assert bill.cost_micro == BOOK.cost(bill.model, usage, clock.now)
            assert usage.input == count(SYSTEM) + sum(count(m["content"]) for m in talk.said[:-1])


@APIS
def test_a_conversation_is_read_from_the_cache_until_it_falls_cold(start, clock, api):
    server = start(answer, clock=clock)
    talk = Talk(api, server)
    with talk.client:
        first = talk.say("one " * 50)
        assert first.read == 0
        warm = talk.say("two " * 50)
        floor = first.input if api != "chat" else first.input // 128 * 128
        assert warm.read == floor
        clock.now += TTL_S[api] - 1
        assert talk.say("three " * 50).read >= warm.read
        clock.now += TTL_S[api]
        cold = talk.say("four " * 50)
        assert cold.read == 0
    assert all(bill.cost_micro > 0 for bill in server.bills)


@APIS
def test_the_bill_of_a_conversation_is_that_of_the_rules(start, clock, api):
    """Computed here by hand from lengths alone: all that was sent before is read, the rest new."""
    server = start(answer, clock=clock)
    talk = Talk(api, server)
    before, expected = 0, 0
    with talk.client:
        for turn in range(8):
            usage = talk.say(f"question {turn} " * 30)
            price = BOOK.price(server.bills[-1].model, at=clock.now)
            if api == "chat":
                read = before // 128 * 128
                expected += round(price.input * (usage.input - read) + price.read * read + 0)
            else:
                read = before
                expected += round(price.write * (usage.input - read) + price.read * read)
            assert usage.read == read
            expected += round(price.output * usage.output)
            before = usage.input
    billed = sum(bill.cost_micro for bill in server.bills)
    assert abs(billed - expected) <= 2 * len(server.bills)  # each bill is rounded once


@pytest.fixture(scope="module")
def shared():
    with emulator(answer) as server:
        yield server


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    api=st.sampled_from(sorted(TTL_S)),
    turns=st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Z"]), min_size=1),
        max_size=4,
    ),
)
def test_whatever_is_said_the_kinds_add_up(shared, api, turns):
    talk = Talk(api, shared)
    with talk.client:
        for words in turns:
            usage = talk.say(words)
            assert usage == shared.bills[-1].usage
            assert usage.input == count(SYSTEM) + sum(count(m["content"]) for m in talk.said[:-1])
