"""One rule for counting tokens."""

from hypothesis import given
from hypothesis import strategies as st

from agentmesh.economy import count, pieces


def test_counts_a_quarter_of_the_characters_rounded_up():
    assert [count("x" * n) for n in (0, 1, 4, 5, 8, 9)] == [0, 1, 1, 2, 2, 3]


@given(st.text(max_size=3_000), st.sampled_from([1, 16, 128]))
def test_cutting_a_block_for_the_cache_keeps_its_tokens(text, granularity):
    blocks = pieces("user", text, granularity=granularity, position=3)
    assert sum(block.tokens for block in blocks) == count(text)
    assert {block.position for block in blocks} == {3}
    assert all(block.tokens <= granularity for block in blocks) or granularity == 1
