"""What a call used, in one form for every vendor."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call or of many, by the price that they are billed at.

    The four kinds of input are disjoint. `write` is what was written to the cache with the
    vendor's short time to live (Anthropic 5 minutes, OpenAI 30), `write_long` with the long one
    (1 hour, 12 hours). `output` includes `reasoning`.
    """

    fresh: int = 0
    read: int = 0
    write: int = 0
    write_long: int = 0
    output: int = 0
    reasoning: int = 0

    def __post_init__(self) -> None:
        values = (self.fresh, self.read, self.write, self.write_long, self.output, self.reasoning)
        try:
            if min(values) >= 0 and isinstance(sum(values), int):
                return
        except TypeError:
            pass
        for number, value in enumerate(values):
            if not isinstance(value, int) or value < 0:
                name = fields(self)[number].name
                raise ValueError(f"usage.{name} must be a count of tokens, not {value!r}")

    @property
    def input(self) -> int:
        """All input tokens, cached or not."""
        return self.fresh + self.read + self.write + self.write_long

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))
