"""The vendors' cache billing, rule by rule, and what holds whatever the requests are."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh.economy import Block, CacheSpace, PrefixCache, Usage, digest, pieces, semantics

OPUS = semantics("anthropic:claude-opus-5-5")
SOL = semantics("openai:gpt-6.1-sol")
AUTO = semantics("openai:gpt-5.1")


class Clock:
    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def block(name, tokens=100, mark=None, position=0, closes=False):
    return Block(digest("user", name), tokens, mark, position, closes)


def row(*names, tokens=100, marks=(), start=0):
    """Return blocks at positions of their own, marked where `marks` names them."""
    marks = dict.fromkeys(marks, "short") if not isinstance(marks, dict) else marks
    return [
        block(name, tokens, marks.get(name), start + index, closes=True)
        for index, name in enumerate(names)
    ]


def send(cache, blocks, **kw):
    lookup = cache.look_up(blocks, **kw)
    cache.begin(lookup)
    return lookup.usage


# Anthropic


def test_nothing_is_written_without_a_mark(clock):
    cache = PrefixCache(OPUS, clock)
    assert send(cache, row("a", "b", tokens=600)) == Usage(fresh=1200)
    assert send(cache, row("a", "b", tokens=600, marks="b")) == Usage(write=1200)
    assert len(cache) == 1


def test_a_marked_prefix_is_written_once_and_read_after(clock):
    cache = PrefixCache(OPUS, clock)
    first = row("a", "b", "c", tokens=600, marks="b")
    assert send(cache, first) == Usage(fresh=600, write=1200)
    assert send(cache, first) == Usage(fresh=600, read=1200)


def test_a_prefix_below_the_minimum_is_silently_not_cached(clock):
    cache = PrefixCache(OPUS, clock)
    short = [block("a", 511, "short")]
    assert send(cache, short) == send(cache, short) == Usage(fresh=511)
    exact = [block("b", 512, "short")]
    assert (send(cache, exact), send(cache, exact)) == (Usage(write=512), Usage(read=512))


def test_a_changed_block_loses_what_comes_after_it(clock):
    cache = PrefixCache(OPUS, clock)
    send(cache, row("a", "b", "c", tokens=600, marks="ac"))
    assert send(cache, row("a", "x", "c", tokens=600, marks="ac")) == Usage(read=600, write=1200)


@pytest.mark.parametrize(("added", "read"), [(18, 600), (19, 600), (20, 0)])
def test_a_mark_looks_back_twenty_positions_itself_included(clock, added, read):
    cache = PrefixCache(OPUS, clock)
    send(cache, row("a", tokens=600, marks="a"))
    names = [f"n{i}" for i in range(added)]
    usage = send(cache, row("a", *names, tokens=600, marks=names[-1:]))
    assert usage == Usage(read=read, write=600 * (1 + added) - read)


def test_a_mark_in_between_keeps_the_old_entry_in_sight(clock):
    cache = PrefixCache(OPUS, clock)
    send(cache, row("a", tokens=600, marks="a"))
    names = [f"n{i}" for i in range(30)]
    usage = send(cache, row("a", *names, tokens=600, marks=["n15", "n29"]))
    assert usage.read == 600


def test_blocks_that_share_a_position_count_once(clock):
    cache = PrefixCache(OPUS, clock)
    head = row("a", tokens=600, marks="a")
    send(cache, head)
    results = [block(f"r{i}", 10, position=1) for i in range(40)]
    tail = block("end", 10, "short", position=2)
    assert send(cache, [*head, *results, tail]).read == 600


def test_an_entry_lives_from_the_start_of_its_request(clock):
    cache = PrefixCache(OPUS, clock)
    prompt = row("a", tokens=600, marks="a")
    lookup = cache.look_up(prompt)
    clock.now += 200  # the answer takes that long to begin
    cache.begin(lookup)
    clock.now += 99.9
    assert cache.look_up(prompt).usage.read == 600
    clock.now += 0.1
    assert cache.look_up(prompt).usage == Usage(write=600)


def test_a_read_prolongs_for_free(clock):
    cache = PrefixCache(OPUS, clock)
    prompt = row("a", tokens=600, marks="a")
    send(cache, prompt)
    for _ in range(10):
        clock.now += 299
        assert send(cache, prompt) == Usage(read=600)
    clock.now += 300
    assert send(cache, prompt) == Usage(write=600)


def test_each_stretch_is_written_at_its_own_time_to_live(clock):
    cache = PrefixCache(OPUS, clock)
    prompt = row("a", "b", "c", tokens=600, marks={"a": "long", "b": "short"})
    assert send(cache, prompt) == Usage(fresh=600, write=600, write_long=600)
    clock.now += 301
    assert send(cache, prompt) == Usage(fresh=600, read=600, write=600)
    clock.now += 3599
    assert send(cache, prompt).read == 600
    clock.now += 3600
    assert send(cache, prompt).read == 0


def test_a_mark_inside_what_was_read_is_free_and_does_not_outlive_it(clock):
    cache = PrefixCache(OPUS, clock)
    send(cache, row("a", "b", tokens=600, marks="b"))
    assert send(cache, row("a", "b", tokens=600, marks={"a": "long", "b": "short"})).read == 1200
    clock.now += 299
    assert cache.look_up(row("a", "x", tokens=600, marks="a")).usage.read == 600
    clock.now += 1
    assert cache.look_up(row("a", "x", tokens=600, marks="a")).usage.read == 0


def test_parallel_requests_all_pay_until_the_first_response_begins(clock):
    cache = PrefixCache(OPUS, clock)
    prompt = row("a", tokens=600, marks="a")
    one, two = cache.look_up(prompt), cache.look_up(prompt)
    assert one.usage == two.usage == Usage(write=600)
    cache.begin(one)
    assert cache.look_up(prompt).usage == Usage(read=600)


def test_a_request_that_fails_before_it_begins_writes_nothing(clock):
    cache = PrefixCache(OPUS, clock)
    prompt = row("a", tokens=600, marks="a")
    cache.look_up(prompt)
    assert len(cache) == 0
    assert cache.look_up(prompt).usage == Usage(write=600)


def test_a_clock_that_goes_back_does_not_shorten_a_life(clock):
    cache = PrefixCache(OPUS, clock)
    prompt = row("a", tokens=600, marks="a")
    send(cache, prompt)
    clock.now -= 250
    send(cache, prompt)
    clock.now += 549
    assert cache.look_up(prompt).usage.read == 600


def test_an_empty_prompt_costs_nothing(clock):
    for rules in (OPUS, SOL, AUTO, semantics("openai:gpt-3.5-turbo")):
        assert PrefixCache(rules, clock).look_up([]).usage == Usage()


def test_keys_and_models_do_not_share_a_cache(clock):
    space = CacheSpace(clock)
    prompt = row("a", tokens=5_000, marks="a")
    send(space.cache("k1", "anthropic:claude-opus-5-5"), prompt)
    assert send(space.cache("k1", "anthropic:claude-opus-5-5"), prompt).read == 5_000
    assert send(space.cache("k2", "anthropic:claude-opus-5-5"), prompt).read == 0
    assert send(space.cache("k1", "anthropic:claude-opus-5"), prompt).read == 0
    space.clear()
    assert send(space.cache("k1", "anthropic:claude-opus-5-5"), prompt).read == 0


def test_expired_entries_do_not_pile_up(clock):
    cache = PrefixCache(OPUS, clock)
    for number in range(20_000):
        clock.now += 1
        send(cache, row(str(number), tokens=600, marks=[str(number)]))
    assert len(cache) < 5_000


# OpenAI, from GPT-5.6 on


def turn(*names, marks=(), tokens=1_100):
    """Return a conversation: the first is instructions, then user and assistant in turns."""
    return [
        block(name, tokens, "short" if name in marks else None, index, closes=index % 2 == 1)
        for index, name in enumerate(names)
    ]


def test_a_conversation_that_grows_reads_its_last_user_message(clock):
    cache = PrefixCache(SOL, clock)
    assert send(cache, turn("sys", "u1")) == Usage(write=2_200)
    assert send(cache, turn("sys", "u1", "a1", "u2")) == Usage(read=2_200, write=2_200)


def test_a_stable_prefix_before_a_changing_message_is_never_read(clock):
    cache = PrefixCache(SOL, clock)
    send(cache, turn("sys", "u1"))
    assert send(cache, turn("sys", "other")) == Usage(write=2_200)


def test_an_explicit_breakpoint_ends_a_prefix_that_is_shared(clock):
    cache = PrefixCache(SOL, clock)
    send(cache, turn("sys", "u1", marks=["sys"]))
    assert send(cache, turn("sys", "other", marks=["sys"])) == Usage(read=1_100, write=1_100)
    # an entry is found where this request has a breakpoint, and only there
    assert send(cache, turn("sys", "third")).read == 0


def test_explicit_mode_without_breakpoints_does_not_cache(clock):
    cache = PrefixCache(SOL, clock)
    prompt = turn("sys", "u1")
    assert send(cache, prompt, implicit=None) == Usage(fresh=2_200)
    assert send(cache, prompt, implicit=None) == Usage(fresh=2_200)


def test_three_explicit_breakpoints_and_the_implicit_one_are_written(clock):
    cache = PrefixCache(SOL, clock)
    names = ["s", "b", "c", "d", "e", "u"]
    send(cache, turn(*names, marks=names[:5]))
    assert len(cache) == 4
    assert send(cache, turn("s", "b", "x", marks="sb"), implicit=None).read == 0
    assert send(cache, turn("s", "b", "c", "x", marks="c"), implicit=None).read == 3_300


def test_explicit_mode_writes_four_breakpoints(clock):
    cache = PrefixCache(SOL, clock)
    names = ["s", "b", "c", "d", "e", "u"]
    send(cache, turn(*names, marks=names[:5]), implicit=None)
    assert len(cache) == 4


@pytest.mark.parametrize(("later", "found"), [(79, True), (80, False)])
def test_the_latest_eighty_breakpoints_are_looked_up(clock, later, found):
    cache = PrefixCache(SOL, clock)
    first = [block("u0", 1_100, closes=True)]
    send(cache, first)
    rest = [block(f"u{i}", 10, position=i, closes=True) for i in range(1, later + 1)]
    assert (send(cache, first + rest).read == 1_100) is found


def test_a_prefix_is_cached_from_1024_tokens(clock):
    cache = PrefixCache(SOL, clock)
    for _ in range(2):
        assert send(cache, turn("u", "v", tokens=511)) == Usage(fresh=1_022)
    assert send(cache, turn("u", "v", tokens=512)) == Usage(write=1_024)


def test_the_long_time_to_live_is_billed_as_such(clock):
    cache = PrefixCache(SOL, clock)
    prompt = turn("s", "u")
    assert send(cache, prompt, implicit="long") == Usage(write_long=2_200)
    clock.now += 12 * 3600 - 1
    assert send(cache, prompt, implicit="long") == Usage(read=2_200)


# automatic caches


def text_blocks(*texts):
    return [
        piece
        for position, text in enumerate(texts)
        for piece in pieces("user", text, granularity=128, position=position)
    ]


def test_automatic_caching_reads_in_steps_and_writes_for_free(clock):
    cache = PrefixCache(AUTO, clock)
    prompt = text_blocks("s" * 8_000, "u" * 40)
    assert send(cache, prompt) == Usage(fresh=2_010)
    assert send(cache, prompt) == Usage(fresh=2_010 - 1_920, read=1_920)


def test_automatic_caching_reads_half_a_block(clock):
    cache = PrefixCache(AUTO, clock)
    send(cache, text_blocks("s" * 8_000 + "Monday"))
    assert send(cache, text_blocks("s" * 8_000 + "Tuesday")).read == 1_920


def test_automatic_caching_begins_at_its_minimum(clock):
    cache = PrefixCache(AUTO, clock)
    short = text_blocks("s" * 4_092)
    assert send(cache, short) == send(cache, short) == Usage(fresh=1_023)


def test_at_least_one_token_is_computed(clock):
    cache = PrefixCache(AUTO, clock)
    prompt = text_blocks("s" * 1_024 * 4)
    send(cache, prompt)
    assert send(cache, text_blocks("s" * 1_024 * 4, "u")).read == 1_024
    assert send(cache, prompt).read == 0


def test_a_model_without_a_cache_bills_everything_fresh(clock):
    cache = PrefixCache(semantics("openai:gpt-3.5-turbo"), clock)
    prompt = row("a", tokens=5_000, marks="a")
    assert send(cache, prompt) == send(cache, prompt) == Usage(fresh=5_000)


# whatever the requests are

NAMES = st.sampled_from("abcd")
PROMPTS = st.lists(
    st.tuples(
        NAMES,
        st.integers(1, 900),
        st.sampled_from([None, None, "short"]),
        st.integers(0, 1),
        st.booleans(),
    ),
    max_size=12,
)
RULES = st.sampled_from([OPUS, SOL, AUTO, semantics("openai-compatible:x")])


def build(shape):
    position, blocks = 0, []
    for name, tokens, mark, step, closes in shape:
        position += step
        # the same name always has the same length, as the same text would
        size = tokens if name == "" else 100 + 300 * "abcd".index(name)
        blocks.append(Block(digest("user", name), size, mark, position, closes))
    return blocks


@settings(max_examples=300, deadline=None)
@given(RULES, st.lists(st.tuples(PROMPTS, st.floats(0, 400), st.booleans()), max_size=12))
def test_the_kinds_add_up_and_nothing_is_read_that_was_not_sent(rules, requests):
    clock = Clock()
    cache = PrefixCache(rules, clock)
    sent = []
    for shape, wait_s, begins in requests:
        clock.now += wait_s
        prompt = build(shape)
        lookup = cache.look_up(prompt)
        usage = lookup.usage
        assert usage.input == sum(b.tokens for b in prompt)
        assert usage.output == 0
        if usage.read:
            assert usage.read >= rules.minimum
            alive = [blocks for at, blocks in sent if clock.now - at <= 12 * rules.ttl_s]
            assert max(shared(prompt, blocks) for blocks in alive) >= usage.read
        if not any(b.mark for b in prompt) and rules is OPUS:
            assert usage == Usage(fresh=usage.input)
        assert cache.look_up(prompt) == lookup  # looking does not touch
        if begins:
            cache.begin(lookup)
            sent.append((clock.now, prompt))


def shared(one, two):
    """Return how many tokens two prompts share at their beginnings."""
    total = 0
    for a, b in zip(one, two, strict=False):
        if a.sha != b.sha:
            break
        total += a.tokens
    return total


@settings(max_examples=200, deadline=None)
@given(
    RULES,
    st.lists(st.lists(st.integers(1, 700), min_size=1, max_size=6), min_size=1, max_size=15),
    st.lists(st.floats(0, 299), min_size=15, max_size=15),
)
def test_a_conversation_that_only_grows_reads_all_that_was_written(rules, steps, waits):
    clock = Clock()
    cache = PrefixCache(rules, clock)
    log, written = [], 0
    for number, (step, wait_s) in enumerate(zip(steps, waits, strict=False)):
        clock.now += wait_s
        for index, tokens in enumerate(step):
            log.append(Block(digest("user", f"{number} {index}"), tokens, None, len(log)))
        log[-1] = log[-1]._replace(closes=True)
        usage = send(cache, [*log[:-1], log[-1]._replace(mark="short")])
        if rules.granularity == 1:
            assert usage.read == written
            assert usage.write == (usage.input - written if usage.input >= rules.minimum else 0)
            written = usage.read + usage.write
        else:
            floor = min(written, usage.input - 1) // rules.granularity * rules.granularity
            assert usage.read == (floor if floor >= rules.minimum else 0)
            written = usage.input if usage.input >= rules.minimum else 0


@settings(max_examples=100, deadline=None)
@given(RULES, st.integers(1_024, 9_000), st.floats(0, 100_000))
def test_what_has_expired_is_not_read(rules, tokens, late_s):
    clock = Clock()
    cache = PrefixCache(rules, clock)
    prompt = [Block(digest("user", "a"), tokens, "short", 0, closes=True), block("b", 200)]
    send(cache, prompt)
    clock.now += rules.ttl_s + late_s
    assert cache.look_up(prompt).usage.read == 0


def test_the_table_of_rules_is_what_the_simulator_follows(clock):
    """A model with a wider lookback and no minimum needs nothing but its row."""
    rules = replace(OPUS, lookback=None, minimum=1)
    cache = PrefixCache(rules, clock)
    send(cache, row("a", tokens=1, marks="a"))
    names = [f"n{i}" for i in range(100)]
    assert send(cache, row("a", *names, tokens=1, marks=names[-1:])).read == 1
