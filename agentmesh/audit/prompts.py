"""The prompts behind a ledger's calls: what each showed, and where two of them parted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from agentmesh.canonical import sha
from agentmesh.diagnostics import KEY
from agentmesh.economy.billing import Block, digest
from agentmesh.economy.misses import Facts, Layer
from agentmesh.economy.planner import MARKED_FAMILIES, positions
from agentmesh.economy.semantics import semantics
from agentmesh.economy.tokens import count
from agentmesh.economy.warmth import Outline
from agentmesh.memory.epochs import tools_text
from agentmesh.memory.frozen import load_epoch
from agentmesh.memory.render import SHOWN, own_prompt, parse_marks, parse_view, render

if TYPE_CHECKING:
    from agentmesh.memory import Call, Memory
    from agentmesh.memory.epochs import Epoch
    from agentmesh.prompt import Marks, Prompt, Segment, ToolSpec

EXCERPT_CHARS = 60
"""Characters that an excerpt shows on each side of the place."""


class Sent(NamedTuple):
    """A call of the ledger and the prompt that was sent."""

    call: Call
    prompt: Prompt


def sent(memory: Memory, session: str, calls: Sequence[Call]) -> list[Sent]:
    """Return a session's calls with their prompts; the log is read once, not once per call."""
    row = memory.database.read(lambda c: memory.find(c, session).id)
    shown = [record.entry for record in memory.history(session).records() if record.kind in SHOWN]
    epochs: dict[int, Epoch] = {}
    for number in {call.epoch for call in calls}:
        load = partial(load_epoch, tenant=memory.tenant, session_id=row, number=number)
        epochs[number] = memory.database.read(load)
    made = []
    for call in calls:
        if (own := own_prompt(call.marks, call.tail)) is not None:
            made.append(Sent(call, own))
            continue
        epoch, view = epochs[call.epoch], parse_view(call.marks)
        visible = [entry for entry in shown if epoch.base < entry.seq <= call.head]
        seen = view.entries(visible, call.turn)
        marks = parse_marks(call.marks)
        made.append(Sent(call, render(view.epoch(epoch), seen, tail=call.tail, marks=marks)))
    return made


def facts(made: Sent, last: Sent | None, own: Sent | None) -> Facts:
    """Return what `misses.miss` needs to know of a call.

    Args:
        made: the call.
        last: the session's call before it.
        own: the call of the same model before it.
    """
    call, prompt = made
    entries = prompt.entries
    seen, known = (last.call.head if last else 0), (own.call.head if own else 0)
    return Facts(
        model=call.model,
        at=call.started_at,
        usage=call.usage,
        layers=layers(prompt.tools, prompt.segments),
        first=entries[0].seq if entries else 0,
        head=call.head,
        log_tokens=sum(entry.tokens for entry in entries),
        before=sum(entry.tokens for entry in entries if entry.seq <= seen),
        tail=count(prompt.tail),
        positions=sum(positions(e) for e in entries if e.seq > known) if known else 0,
        ttl_s=_life(call.model, prompt.marks),
        answered_at=call.started_at + call.latency_s,
        vendor=str(call.decision.get(KEY, "")),
    )


@lru_cache(maxsize=512)
def layers(tools: tuple[ToolSpec, ...], segments: tuple[Segment, ...]) -> tuple[Layer, ...]:
    """Return the name, hash and tokens of a prompt's frozen layers."""
    size = sum(count(t.name + t.description + t.parameters) for t in tools)
    own = [Layer(s.name, sha(s.text), count(s.text)) for s in segments if s.text.strip()]
    return (Layer("tools", sha(tools_text(tools)), size), *own)


def _life(model: str, marks: Marks) -> float:
    """Return how long the end of what a prompt cached lives; 0 where it cached nothing."""
    rules = semantics(model)
    if rules.family not in MARKED_FAMILIES:
        return rules.ttl_s
    ttls = [*marks.segments.values(), *marks.entries.values()]
    if not ttls:
        return 0.0
    return rules.long_ttl_s or rules.ttl_s if ttls[-1] == "long" else rules.ttl_s


@dataclass(frozen=True, slots=True)
class Parting:
    """The exact place where a prompt stopped being the one before it."""

    segment: str
    offset: int
    before: str
    after: str


def parting(old: Prompt, new: Prompt) -> Parting | None:
    """Return where `new` parts from `old`; None if it only grew. The tail may always differ."""
    theirs = list(_parts(new))
    for number, (name, text) in enumerate(_parts(old)):
        if number >= len(theirs):
            return Parting(name, 0, _excerpt(text, 0), "")
        other_name, other = theirs[number]
        if (name, text) == (other_name, other):
            continue
        offset = _first_difference(text, other) if name == other_name else 0
        label = name if name == other_name else f"{name} / {other_name}"
        return Parting(label, offset, _excerpt(text, offset), _excerpt(other, offset))
    return None


def _parts(prompt: Prompt) -> Iterator[tuple[str, str]]:
    yield "tools", tools_text(prompt.tools)
    for segment in prompt.segments:
        yield segment.name, segment.text
    for entry in prompt.entries:
        yield f"entry {entry.seq} ({entry.kind})", entry.body


def _first_difference(one: str, two: str) -> int:
    low, high = 0, min(len(one), len(two))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == two[:middle] else (low, middle - 1)
    return low


def _excerpt(text: str, offset: int) -> str:
    start, end = max(0, offset - EXCERPT_CHARS // 2), offset + EXCERPT_CHARS
    head = "…" if start else ""
    return f"{head}{text[start:end]}{'…' if end < len(text) else ''}"


def cache_blocks(seen: Outline) -> list[Block]:
    """Return an outline as the billing simulator reads it."""
    points = seen.points
    tokens = [0, *(point.tokens for point in points)]
    made = [
        Block(digest("", p.key), b - a, p.mark, p.position, p.closes)
        for p, (a, b) in zip(points, pairwise(tokens), strict=True)
    ]
    if seen.tokens > tokens[-1]:
        last = points[-1].position + 1 if points else 0
        made.append(Block(digest("tail", str(seen.tokens)), seen.tokens - tokens[-1], None, last))
    return made
