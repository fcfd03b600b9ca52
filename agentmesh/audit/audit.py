"""The audit of chat logs: what they hold, what breaks their cache, what other designs would cost.

One pass over the files, with memory that does not grow with them.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agentmesh.audit.breaks import Break, Breaks
from agentmesh.audit.designs import Assumptions, Billed, Design, Replay, Request
from agentmesh.audit.documents import Broken, documents
from agentmesh.audit.logs import FORMATS, read
from agentmesh.audit.pieces import Flaw, Log, Part, Step
from agentmesh.audit.workload import RULES, Kind, kind_of
from agentmesh.economy.billing import Block, Point, digest, prefixes
from agentmesh.economy.prices import PriceBook
from agentmesh.economy.semantics import ModelName
from agentmesh.errors import InputError


class NothingKnown(InputError):
    """A file holds no record of a form that is known."""


HEADS = 4_096
_LONG_TEXT = 64


@dataclass
class ModelTotals:
    """What a log says of one model."""

    calls: int = 0
    input: int = 0
    output: int = 0
    told: int = 0
    counted: int = 0
    cost_usd: float = 0.0

    @property
    def scale(self) -> float:
        """How many of the model's own tokens one of ours is; 1 where the log does not tell."""
        return self.told / self.counted if self.counted and self.told else 1.0


@dataclass
class Head:
    """Tools and system text that prompts begin with."""

    tokens: int
    sessions: int = 0
    calls: int = 0
    start: str = ""


@dataclass(frozen=True)
class Report:
    """What an audit found; tokens as the log counts them, money in micro-dollars."""

    files: Sequence[str]
    bytes: int
    forms: Mapping[str, int]
    conversations: int
    calls: int
    models: Mapping[ModelName, ModelTotals]
    kinds: Mapping[str, Mapping[str, int]]
    input: int
    repeated: int
    heads: Sequence[Head]
    breaks: Mapping[str, Break]
    designs: Mapping[Design, Billed]
    unpriced: Mapping[ModelName, int]
    flaws: Mapping[str, Break]
    assumptions: Sequence[str]

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON has it."""
        return {
            "files": list(self.files),
            "bytes": self.bytes,
            "formats": dict(self.forms),
            "conversations": self.conversations,
            "calls": self.calls,
            "models": {
                name: {**asdict(row), "tokens_per_ours": round(row.scale, 4)}
                for name, row in self.models.items()
            },
            "workload": {name: dict(rows) for name, rows in self.kinds.items()},
            "input_tokens": self.input,
            "repeated_tokens": self.repeated,
            "prefixes": [asdict(head) for head in self.heads],
            "breaks": {cause: asdict(row) for cause, row in self.breaks.items()},
            "designs": {name: row._asdict() for name, row in self.designs.items()},
            "unpriced_calls": dict(self.unpriced),
            "flaws": {cause: asdict(row) for cause, row in self.flaws.items()},
            "assumptions": list(self.assumptions),
        }


@dataclass
class Audit:
    """Takes logs one after the other and keeps what the report needs."""

    prices: PriceBook = field(default_factory=PriceBook)
    assumptions: Assumptions = field(default_factory=Assumptions)
    tools: Sequence[Part] = ()

    def __post_init__(self) -> None:
        self._replay = Replay(self.assumptions, self.prices)
        self._breaks = Breaks()
        self._heads: OrderedDict[bytes, Head] = OrderedDict()
        self._models: dict[ModelName, ModelTotals] = {}
        self._kinds: dict[str, Counter[str]] = {
            name: Counter() for name in ("complexity", "data", "latency")
        }
        self._forms: Counter[str] = Counter()
        self._flaws: dict[str, Break] = {}
        self._unpriced: Counter[ModelName] = Counter()
        self._files: list[str] = []
        self._bytes = self._conversations = self._calls = self._repeated = self._records = 0
        self._clock = 0.0
        self._hashes: dict[str, bytes] = {}
        self._last_so_far: OrderedDict[str, None] = OrderedDict()

    def read(self, path: Path, progress: Callable[[int], None] = lambda _bytes: None) -> None:
        """Read a file.

        Raises:
            NothingKnown: it holds no record that is known.
            InputError: it cannot be read.
        """
        known = self._calls
        before = self._records
        for document in documents(path, progress):
            self._records += 1
            if isinstance(document, Broken):
                self.flaw(document.why.split(" (")[0], document.where)
                continue
            try:
                for log in read(document.value, self.tools):
                    self.add(log, document.where)
            except (Flaw, TypeError, AttributeError, KeyError, IndexError, OverflowError) as error:
                why = str(error).split(" {")[0] if isinstance(error, Flaw) else "a malformed record"
                self.flaw(why, document.where)
        if self._calls == known:
            empty = self._records == before
            raise NothingKnown(
                f"{str(path)!r} holds {'nothing' if empty else 'no record that is known'}",
                hint=f"known are {FORMATS}; tool schemas go to --tools",
            )
        self._files.append(str(path))
        self._bytes += path.stat().st_size

    def flaw(self, what: str, where: str) -> None:
        """Count a record that could not be used."""
        row = self._flaws.setdefault(what, Break())
        row.times += 1
        row.example = row.example or where

    def add(self, log: Log, where: str = "") -> None:
        """Take a log into account."""
        if not log.model and self.assumptions.unpriced_as:
            log = log._replace(model=self.assumptions.unpriced_as)
        parts = log.parts
        hashes = [self._hash(part) for part in parts]
        plain = [
            Block(sha, part.tokens, None, n, part.kind not in ("assistant", "ai"))
            for n, (sha, part) in enumerate(zip(hashes, parts, strict=True))
        ]
        points = prefixes(plain)
        head = _head_end(parts)
        session = log.session or self._fallback(log, hashes, head)
        self._forms[log.form] += 1
        self._conversations += 1
        alone = len(log.steps) == 1
        known = alone and self._breaks.knows(session)
        if head:
            point = points[head - 1]
            row = self._see_head(parts[:head], point.key, point.tokens, where)
            row.sessions += not known
            row.calls += len(log.steps)
        if known:
            self._followed(session)
        self._steps(log, plain, points, head, session if alone else "", where)
        if alone:
            scale = self._models[log.model or "(unknown)"].scale
            sizes = [round(point.tokens * scale) for point in points]
            self._breaks.see(session, log.model, parts, hashes, sizes, log.steps[0].at, where)
        else:
            self._pauses(log, points, where)

    def _steps(
        self,
        log: Log,
        plain: Sequence[Block],
        points: Sequence[Point],
        head: int,
        session: str,
        where: str,
    ) -> None:
        """Count a log's steps and bill them; `session` is that of a request on its own."""
        name = log.model or "(unknown)"
        totals = self._models.setdefault(name, ModelTotals())
        priced = self._replay.priced(log.model)
        last_user = _last_user(log.parts)
        before = end = 0
        for step in log.steps:
            at = self._time(step, where)
            upto = step.upto
            tokens = points[upto - 1].tokens if upto else 0
            self._count(totals, step, tokens)
            kind = kind_of(log.parts, step, follows=upto <= last_user)
            self._sort(kind, session)
            if before:
                self._repeated += before
                self._breaks.sent_again(log.model, round(before * totals.scale), where)
            if priced:
                request = Request(
                    log.model,
                    plain[:upto],
                    _marked(plain, (head, end, upto)),
                    points[:upto],
                    at,
                    step.output,
                    kind.complexity,
                    step.used,
                    log.marked,
                )
                self._replay.step(request)
            else:
                self._unpriced[name] += 1
            before, end = tokens, upto

    def report(self) -> Report:
        """Return what was found."""
        scale = {name: row.scale for name, row in self._models.items()}
        heads = sorted(self._heads.values(), key=lambda head: -head.tokens * head.calls)
        tokens = sum(row.input for row in self._models.values())
        return Report(
            files=self._files,
            bytes=self._bytes,
            forms=dict(self._forms),
            conversations=self._conversations,
            calls=self._calls,
            models=dict(sorted(self._models.items(), key=lambda item: -item[1].input)),
            kinds={name: dict(rows.most_common()) for name, rows in self._kinds.items()},
            input=tokens,
            repeated=self._repeated + self._breaks.repeated,
            heads=[head for head in heads if head.sessions > 1 or head.calls > 1][:5],
            breaks=dict(sorted(self._breaks.found.items(), key=lambda row: -row[1].tokens)),
            designs=self._replay.bills(scale),
            unpriced=dict(self._unpriced),
            flaws=self._flaws,
            assumptions=[*self.assumptions.lines(), f"Kinds of steps: {RULES}."],
        )

    def _hash(self, part: Part) -> bytes:
        """Return a part's hash; long texts that come again and again are hashed once."""
        text = part.text
        if len(text) < _LONG_TEXT:
            return digest(part.kind, text)
        # hash(text) is computed for the lookup alone and is much cheaper than a digest
        known = self._hashes.get(text)
        if known is None:
            known = digest(part.kind, text)
            if part.kind in ("system", "tools", "developer"):
                if len(self._hashes) > 256:
                    self._hashes.clear()
                self._hashes[text] = known
        return known

    def _time(self, step: Step, where: str) -> float:
        """Return when a step began: the log's time if it has one, and never before the last."""
        if step.at is None:
            self._clock += self.assumptions.step_s
        elif step.at < self._clock:
            if self._clock - step.at > 1:
                self.flaw("a time before the one logged earlier: taken as equal", where)
        else:
            self._clock = step.at
        return self._clock

    def _count(self, totals: ModelTotals, step: Step, tokens: int) -> None:
        self._calls += 1
        totals.calls += 1
        totals.input += tokens
        totals.output += step.output
        totals.cost_usd += step.cost_usd or 0.0
        if step.prompt:
            totals.told += step.prompt
            totals.counted += tokens

    def _see_head(self, parts: Sequence[Part], key: bytes, tokens: int, where: str) -> Head:
        row = self._heads.get(key)
        if row is None:
            row = self._heads[key] = Head(tokens, start=parts[-1].text[:80])
            if len(self._heads) > HEADS:
                self._heads.popitem(last=False)
        self._breaks.head(parts, key, tokens, where)
        return row

    def _sort(self, kind: Kind, session: str) -> None:
        """Count a step's category; `session` is that of a request that may yet be followed."""
        for name, value in zip(self._kinds, kind, strict=True):
            self._kinds[name][value] += 1
        if session and kind.latency == "no follow-up":
            self._last_so_far[session] = None
            if len(self._last_so_far) > HEADS:
                self._last_so_far.popitem(last=False)

    def _followed(self, session: str) -> None:
        """Note that a session goes on: somebody waited for its last answer after all."""
        if session in self._last_so_far:
            del self._last_so_far[session]
            self._kinds["latency"] += Counter({"a person waits": 1})
            self._kinds["latency"] -= Counter({"no follow-up": 1})

    def _pauses(self, log: Log, points: Sequence[Any], where: str) -> None:
        for one, two in zip(log.steps, log.steps[1:], strict=False):
            if one.at is not None and two.at is not None:
                tokens = points[one.upto - 1].tokens if one.upto else 0
                self._breaks.pause(log.model, two.at - one.at, tokens, where)

    @staticmethod
    def _fallback(log: Log, hashes: Sequence[bytes], head: int) -> str:
        """Return a name for a session that the log does not name: its first message's hash."""
        first = hashes[head] if head < len(hashes) else b""
        return f"{log.model}:{first.hex()}"


def _head_end(parts: Sequence[Part]) -> int:
    end = 0
    while end < len(parts) and parts[end].kind in ("tools", "system", "developer"):
        end += 1
    return end


def _last_user(parts: Sequence[Part]) -> int:
    for index in range(len(parts) - 1, -1, -1):
        if parts[index].kind in ("user", "human"):
            return index
    return -1


def _marked(plain: Sequence[Block], ends: Sequence[int]) -> list[Block]:
    """Return the prompt up to the last of these ends, with a breakpoint at each of them.

    They are the shared part's, the last call's and this one's: what was read before is read
    again, and the next call reads what this one wrote.
    """
    blocks = list(plain[: ends[-1]])
    for end in ends:
        if end:
            sha, tokens, _, position, closes = blocks[end - 1]
            blocks[end - 1] = Block(sha, tokens, "short", position, closes)
    return blocks
