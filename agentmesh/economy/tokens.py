"""How tokens are counted where no vendor counts them: one rule for emulator, planner and audit.

The rule: a block of text has a quarter of its characters, rounded up. A prompt has the sum over
its blocks, so that counting is additive and a block's count never depends on its neighbours.

| block | text that is counted |
|---|---|
| text, a tool's result, a system segment | the text |
| a tool call | its name, then its arguments' JSON text |
| a tool | its name, description and parameters' canonical JSON |
"""

from __future__ import annotations

CHARS_PER_TOKEN = 4
"""Characters of one token; close to the vendors' tokenizers on English prose."""


def count(text: str) -> int:
    """Return the tokens of one block of text: a quarter of its characters, rounded up."""
    return -(-len(text) // CHARS_PER_TOKEN)
