"""Why a prompt was not read from the cache: a pure function of two consecutive calls' facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from agentmesh.economy.semantics import CacheSemantics, ModelName, semantics
from agentmesh.economy.usage import Usage

Cause = Literal[
    "first visit",
    "ttl",
    "compaction",
    "memory fold",
    "tool change",
    "instructions",
    "settings",
    "model switch",
    "below minimum",
    "lookback",
    "unmarked",
    "race",
    "eviction",
    "unknown",
]
"""Why tokens that could have been read were not."""

TOLERANCE = 0.02
"""Share of a prompt that vendors' counts may differ by; what misses less is no miss."""

_VENDOR: dict[str, Cause] = {
    "model_changed": "model switch",
    "tools_changed": "tool change",
    "system_changed": "instructions",
    "messages_changed": "compaction",
    "input_changed": "compaction",
    "context_compacted": "compaction",
    "prompt_cache_key_changed": "settings",
    "text_format_changed": "settings",
    "reasoning_effort_changed": "settings",
    "verbosity_changed": "settings",
    "service_tier_changed": "settings",
}


_SEEN_AS: dict[str, frozenset[Cause]] = {
    "system_changed": frozenset({"instructions", "memory fold", "compaction"}),
    "messages_changed": frozenset({"compaction", "memory fold"}),
    "input_changed": frozenset({"instructions", "memory fold", "compaction"}),
}


def agrees(cause: Cause, vendor: str) -> bool | None:
    """Return whether a cause is what the vendor saw; None where it named nothing that we know."""
    if vendor not in _VENDOR:
        return None
    return cause in _SEEN_AS.get(vendor, {_VENDOR[vendor]})


class Layer(NamedTuple):
    """A frozen layer of a prompt: its name, the hash of its text, its tokens."""

    name: str
    sha: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one call: enough to say why it missed.

    `first` and `head` are the seqs of the first and the last entry shown, `log_tokens` what the
    log's entries hold, `before` how many of those the session's call before it showed already,
    `tail` the tokens of the volatile end.
    `positions` is how many cache positions were added since this model's last call, `ttl_s` how
    long this call's last mark lives (0 for a prompt without marks), `answered_at` when its
    response began. `vendor` is the vendor's own reason, where it gave one.
    """

    model: ModelName
    at: float
    usage: Usage
    layers: Sequence[Layer]
    first: int
    head: int
    log_tokens: int = 0
    before: int = 0
    tail: int = 0
    positions: int = 0
    ttl_s: float = 0.0
    answered_at: float = 0.0
    vendor: str = ""

    @property
    def frozen(self) -> int:
        """Tokens of the frozen layers."""
        return sum(layer.tokens for layer in self.layers)

    @property
    def tokens(self) -> int:
        """Tokens of the whole prompt, by our own count."""
        return self.frozen + self.log_tokens + self.tail

    @property
    def scale(self) -> float:
        """How many billed tokens one of ours is."""
        return self.usage.input / self.tokens if self.tokens else 1.0


class Miss(NamedTuple):
    """Tokens that were paid again: how many, why, and where the prompts parted ("" at the end)."""

    cause: Cause
    tokens: int
    place: str = ""


def miss(last: Facts | None, own: Facts | None, call: Facts) -> Miss | None:
    """Return why `call` paid for tokens that it could have read; None if it read them.

    Args:
        last: the session's call before this one, whichever model made it.
        own: the call before this one of the same model, None if there was none.
        call: the call to explain.
    """
    rules = semantics(call.model)
    missed = _missed(last, call)
    if missed <= max(rules.granularity, TOLERANCE * call.usage.input):
        return None
    cause, place = _cause(last, own, call, rules)
    if cause == "eviction" and call.vendor in _VENDOR:
        return Miss(_VENDOR[call.vendor], missed, "by the vendor's word")
    return Miss(cause, missed, place)


def _missed(last: Facts | None, call: Facts) -> int:
    """Return the tokens that were not read although they were sent before, or might have been."""
    if last is None:
        return call.usage.input - call.usage.read
    sent = min(round((call.frozen + call.before) * call.scale), call.usage.input)
    return max(0, sent - call.usage.read)


def _cause(
    last: Facts | None, own: Facts | None, call: Facts, rules: CacheSemantics
) -> tuple[Cause, str]:
    if rules.family == "none" or call.tokens < rules.minimum:
        return "below minimum", ""
    if last is None:
        return "first visit", ""
    if own is None:
        return "model switch", ""
    parted = _parted(own, call)
    if parted is not None:
        return parted
    if call.at < own.at:
        return "unknown", "the clock went backwards"
    if own.tokens < rules.minimum:
        return "below minimum", "the call before"
    if own.ttl_s <= 0:
        return "unmarked", ""
    if call.at - own.at >= own.ttl_s:
        return "ttl", ""
    if call.at < own.answered_at:
        return "race", ""
    if last.model != call.model and call.usage.read >= (1 - TOLERANCE) * own.usage.input:
        return "model switch", ""
    if call.positions and rules.lookback is not None and call.positions >= rules.lookback:
        return "lookback", ""
    return "eviction", ""


def _parted(own: Facts, call: Facts) -> tuple[Cause, str] | None:
    """Return where the prompts of two calls parted, and why; None if the later one only grew."""
    old = {layer.name: layer.sha for layer in own.layers}
    new = {layer.name: layer.sha for layer in call.layers}
    parted = [name for name in dict.fromkeys([*new, *old]) if old.get(name) != new.get(name)]
    # a compaction folds memory too: the cause is what began it, the place is where it shows first
    if parted and parted[0] in ("tools", "core"):
        return ("tool change" if parted[0] == "tools" else "instructions"), parted[0]
    if "digest" in parted or own.first != call.first:
        return "compaction", parted[0] if parted else "log"
    if parted:
        return "memory fold", parted[0]
    if own.head > call.head:
        return "unknown", "the log is shorter than before"
    return None
