from __future__ import annotations

import json
import tracemalloc

import pytest

from agentmesh.audit import breaks
from agentmesh.audit.audit import Audit
from agentmesh.audit.audit_page import audit_page
from agentmesh.audit.designs import DESIGNS, Assumptions, Replay
from agentmesh.audit.pieces import Part, Step
from agentmesh.audit.workload import Kind, kind_of
from agentmesh.economy import billing
from agentmesh.economy.billing import PrefixCache
from agentmesh.economy.prices import Price, PriceBook
from agentmesh.errors import ConfigError, InputError

OPUS = "claude-opus-5-5"
RULES = "You are the desk of a shop. " * 200


def request(session, turns, *, model=OPUS, system=RULES, at=None, **more):
    messages = [{"role": "system", "content": system}] if system else []
    for number, said in enumerate(turns):
        messages.append({"role": ("user", "assistant")[number % 2], "content": said})
    row = {
        "model": model,
        "session_id": session,
        "messages": messages,
        "response": {"choices": [{"message": {"content": "Soon."}}]},
    }
    return {**row, **({"timestamp": at} if at is not None else {}), **more}


def audit(tmp_path, rows, **options):
    path = tmp_path / "log.jsonl"
    path.write_text(
        "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
    )
    taker = Audit(**options)
    taker.read(path)
    return taker.report()


def grown(session="s1", steps=6, **more):
    turns = [f"Message {n} of {session}. " * 20 for n in range(2 * steps)]
    return [request(session, turns[: 2 * n + 1], **more) for n in range(steps)]


def test_a_growing_session_repeats_itself_and_breaks_nothing(tmp_path):
    report = audit(tmp_path, grown())
    assert (report.calls, report.conversations) == (6, 6)
    assert report.breaks == {}
    assert report.repeated / report.input > 0.7
    assert report.heads[0].calls == 6


def test_each_design_is_billed_by_the_vendors_rules(tmp_path):
    report = audit(tmp_path, grown(steps=8))
    logged, well = report.designs["as logged"], report.designs["cached well"]
    assert logged.read_share == 0.0  # Claude caches nothing without a mark
    assert well.read_share > 0.7
    assert well.cost < 0.5 * logged.cost
    tokens = report.input
    assert logged.cost == round(4 * tokens + 20 * 2 * 8)
    assert set(report.designs) == set(DESIGNS)


def test_routing_and_a_student_save_on_simple_steps_alone(tmp_path):
    simple = audit(tmp_path, grown()).designs
    assert simple["all together"].cost < simple["cached well"].cost
    assert simple["with a student"].cost < simple["routed"].cost
    hard = {"choices": [{"message": {"content": "```code```"}}]}
    complex_ = audit(tmp_path, grown(response=hard)).designs
    assert complex_["all together"].cost == complex_["cached well"].cost


def test_failures_of_a_student_are_paid_twice(tmp_path):
    sure = audit(tmp_path, grown(steps=20), assumptions=Assumptions(student_success=1.0))
    shaky = audit(tmp_path, grown(steps=20), assumptions=Assumptions(student_success=0.5))
    assert sure.designs["with a student"].calls == 20
    assert shaky.designs["with a student"].calls == 30
    assert shaky.designs["with a student"].cost > sure.designs["with a student"].cost


def test_what_the_log_was_billed_is_believed(tmp_path):
    usage = {"prompt_tokens": 2000, "completion_tokens": 10, "cached_tokens": 1900}
    told = {"choices": [{"message": {"content": "x"}}], "usage": usage}
    report = audit(tmp_path, [request("s", ["Hi"], model="gpt-5", response=told)])
    price = PriceBook().price("openai:gpt-5")
    expected = price.input * 100 + price.read * 1900 + price.output * 10
    assert report.designs["as logged"].cost == pytest.approx(int(expected), abs=1)
    assert report.designs["as logged"].read_share == 0.95


def test_tokens_are_scaled_to_those_that_the_log_tells(tmp_path):
    plain = audit(tmp_path, [request("s", ["Hi"])])
    usage = {"prompt_tokens": 2 * plain.input, "completion_tokens": 2}
    told = audit(tmp_path, [request("s", ["Hi"], usage=usage)])
    assert told.models["anthropic:claude-opus-5-5"].scale == 2.0
    assert told.designs["as logged"].cost == 2 * plain.designs["as logged"].cost - 20 * 2


def test_unknown_prices_are_left_out_and_named(tmp_path):
    rows = [request("s", ["Hi"], model="mystery"), request("t", ["Hi"])]
    report = audit(tmp_path, rows)
    assert report.unpriced == {"openai-compatible:mystery": 1}
    assert report.designs["as logged"].calls == 1
    book = PriceBook({"openai-compatible:mystery": Price(1, 2)})
    assert audit(tmp_path, rows, prices=book).unpriced == {}
    same = Assumptions(unpriced_as="anthropic:claude-opus-5-5")
    assert audit(tmp_path, rows, assumptions=same).unpriced == {}


@pytest.mark.parametrize(
    ("second", "cause"),
    [
        ({"system": RULES + "It is 2026-11-02."}, "the system text changes within a session"),
        ({"turns": ["x", "y", "z"]}, "the history is rewritten"),
        ({"turns": ["x", "b", "c"]}, "the history is trimmed or edited in the middle"),
        ({"turns": ["c", "d", "e"]}, "the history is trimmed or edited in the middle"),
        ({"model": "gpt-5"}, "the model is switched"),
        ({"at": 1_790_000_900}, "the cache's time ran out"),
        ({"at": 1_789_000_000}, "the log's clock goes backwards"),
        ({"tools": [{"name": "b"}]}, "the tools change within a session"),
    ],
)
def test_names_what_breaks_a_session(tmp_path, second, cause):
    first = {"turns": ["a", "b", "c"], "at": 1_790_000_000, "tools": [{"name": "a"}]}
    turns = second.get("turns", ["a", "b", "c", "d", "e"])
    rows = [request("s", **first), request("s", **{**first, **second, "turns": turns})]
    report = audit(tmp_path, rows)
    assert cause in report.breaks
    assert report.breaks[cause].times == 1
    assert report.breaks[cause].example.startswith("log.jsonl:2")


@pytest.mark.parametrize(
    ("one", "two", "what"),
    [
        ("It is 10:15 now. ", "It is 10:16 now. ", "a date or time"),
        ("Id 4f5e6d7c8b9a0f1e2d. ", "Id 4f5e6d7c8b9a0f1eff. ", "an id"),
        ("Ticket 4. ", "Ticket 5. ", "a number"),
        ("Dear Ann. ", "Dear Bob. ", "other text"),
    ],
)
def test_finds_what_differs_between_sessions(tmp_path, one, two, what):
    start = "You are the desk of a large shop that sells almost everything. "
    rows = [
        request("s1", ["Hi"], system=start + one + RULES),
        request("s2", ["Hi"], system=start + two + RULES),
    ]
    report = audit(tmp_path, rows)
    found = report.breaks[f"the shared part differs between sessions by {what}"]
    assert found.tokens > 1000
    assert "character" in found.example


def test_requests_of_one_session_are_one_conversation(tmp_path):
    report = audit(tmp_path, [*grown("s1"), *grown("s2")])
    [head] = report.heads
    assert (head.sessions, head.calls) == (2, 12)
    assert report.kinds["latency"] == {"a person waits": 10, "no follow-up": 2}


@pytest.mark.parametrize(
    ("model", "short"), [("claude-opus-4-6", True), (OPUS, False), ("my-own-model", False)]
)
def test_a_prompt_too_short_to_be_cached_is_seen(tmp_path, model, short):
    cause = "a prompt that is sent again is shorter than its model caches"
    report = audit(tmp_path, grown(model=model))
    assert (cause in report.breaks) == short
    if short:
        found = report.breaks[cause]
        assert found.times == 5
        assert "caches from 4,096 on" in found.example
        assert report.repeated == found.tokens


def test_a_pause_inside_a_conversation_is_seen(tmp_path):
    said = [{"role": "user", "content": "Hi"}]
    for at in (1_790_000_000, 1_790_000_400):
        said.append({"role": "assistant", "content": "Hello", "timestamp": at})
    row = {"task_id": "1", "reward": 1, "model": OPUS, "messages": said}
    assert "the cache's time ran out" in audit(tmp_path, [row]).breaks


def test_bad_records_are_counted_and_named_and_the_rest_is_used(tmp_path):
    bad = {"choices": [], "usage": {"prompt_tokens": -1}}
    rows = [
        request("s", ["Hi"]),
        "garbage\n",
        {"what": "ever"},
        request("s", ["Hi", "Hello", "Bye"], response=bad),
        request("t", ["Hi"], at=1_790_000_000),
        request("t", ["Hi"], at=1_780_000_000),
        json.dumps(request("s", ["Hi"]))[:-20],
    ]
    report = audit(tmp_path, rows)
    assert report.calls == 3
    assert {flaw: row.example for flaw, row in report.flaws.items()} == {
        "not JSON": "log.jsonl:2",
        "a record of unknown form": "log.jsonl:3",
        "negative usage": "log.jsonl:4",
        "a time before the one logged earlier: taken as equal": "log.jsonl:6",
        "not JSON, the file ends in the middle of a record": "log.jsonl:7",
    }


@pytest.mark.parametrize("text", ["", "hello", "[1,2]", '{"a":1}\n', "[", "\x00\x01"])
def test_a_file_of_unknown_form_is_an_error(tmp_path, text):
    path = tmp_path / "log"
    path.write_text(text)
    with pytest.raises(InputError, match="holds no") as caught:
        Audit().read(path)
    assert "tau2-bench" in caught.value.hint


def test_wrong_assumptions_are_errors():
    with pytest.raises(ConfigError, match=r"student_success=1\.5"):
        Assumptions(student_success=1.5)
    with pytest.raises(ConfigError, match="step_s=0"):
        Assumptions(step_s=0)
    with pytest.raises(ConfigError, match="price of 'openai-compatible:x' is unknown"):
        Replay(Assumptions(standard="openai-compatible:x"), PriceBook())


def part(kind, tokens=5, calls=0):
    return Part(kind, "x", tokens, calls)


@pytest.mark.parametrize(
    ("parts", "step", "follows", "kind"),
    [
        (["user"], Step(1, 20), True, Kind("simple", "prompt alone", "a person waits")),
        (["user"], Step(1, 20), False, Kind("simple", "prompt alone", "no follow-up")),
        (["user"], Step(1, 300), True, Kind("moderate", "prompt alone", "a person waits")),
        (["user"], Step(1, 20, calls=1), True, Kind("moderate", "tools", "a person waits")),
        (["user"], Step(1, 20, calls=3), True, Kind("complex", "tools", "a person waits")),
        (["user"], Step(1, 900), True, Kind("complex", "prompt alone", "a person waits")),
        (["user"], Step(1, 9, text="```"), True, Kind("complex", "prompt alone", "a person waits")),
    ],
)
def test_kinds_of_steps(parts, step, follows, kind):
    assert kind_of([part(name) for name in parts], step, follows=follows) == kind


def test_kinds_look_back_to_the_users_turn_only():
    parts = [part("user"), part("assistant", calls=9), part("user"), part("assistant", calls=1)]
    parts.append(part("tool"))
    assert kind_of(parts, Step(5, 20), follows=True) == Kind("moderate", "tools", "between tools")
    long = [part("user", tokens=2_000)]
    assert kind_of(long, Step(1, 20), follows=True).data == "documents"


def test_the_replay_agrees_with_the_simulator_call_by_call(tmp_path):
    """The designs share hashed prefixes; a plain replay of the same blocks bills the same."""
    from agentmesh.audit.audit import _marked
    from agentmesh.economy.billing import Block, digest
    from agentmesh.economy.semantics import semantics

    rows = grown(steps=10)
    report = audit(tmp_path, rows)
    cache = PrefixCache(semantics("anthropic:claude-opus-5-5"), clock=lambda: 0.0)
    read = 0
    for row in rows:
        parts = [(m["role"], m["content"]) for m in row["messages"]]
        blocks = [
            Block(digest(role, text), -(-len(text) // 4), None, n, role != "assistant")
            for n, (role, text) in enumerate(parts)
        ]
        lookup = cache.look_up(_marked(blocks, (1, 0, len(blocks))), at=0.0)
        cache.begin(lookup)
        read += lookup.usage.read
    assert report.designs["cached well"].read_share == pytest.approx(read / report.input)


def test_memory_does_not_grow_with_the_log(tmp_path, monkeypatch):
    monkeypatch.setattr(breaks, "SESSIONS", 50)
    monkeypatch.setattr(billing, "_PRUNE_ABOVE", 100)

    def peak(sessions):
        path = tmp_path / f"{sessions}.jsonl"
        with path.open("w") as log:
            for number in range(sessions):
                for row in grown(f"s{number}", steps=3):
                    log.write(json.dumps(row) + "\n")
        taker = Audit()
        taker.read(path)  # what is loaded once does not count
        tracemalloc.start()
        try:
            Audit().read(path)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(600) < 1.5 * peak(150)


def test_the_page_says_what_the_report_says(tmp_path):
    rows = [*grown(), request("x", ["Hi"], model="mystery"), "garbage\n"]
    text = audit_page(audit(tmp_path, rows))
    for words in ("as logged", "all together", "its price is unknown", "not JSON", "Assumptions"):
        assert words in text
    assert "<script" not in text
