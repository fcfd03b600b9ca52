"""What the ledger teaches a verifier: the cheap tier's drafts, and which of them were wrong.

Every draft is shown to the verifier as it stood when it was judged: the customer's words of the
turn, the tools of the epoch, and all text of the prompt, rebuilt from the log.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from agentmesh import canonical
from agentmesh.memory.frozen import load_epoch
from agentmesh.memory.render import SHOWN
from agentmesh.routers.lessons import GOOD, scores
from agentmesh.routing import CheckContext, Draft, Step, ToolFacts
from agentmesh.routing.drafts import call_key, drafted, past_calls, shown_text
from agentmesh.routing.judges import agree
from agentmesh.routing.verifier import Judged
from agentmesh.toolview import ToolView

if TYPE_CHECKING:
    from agentmesh.memory import Call, Memory
    from agentmesh.memory.epochs import Epoch
    from agentmesh.memory.sessions import Record
    from agentmesh.routing.drafts import DraftCall

FORMAL = frozenset({"stop", "not_empty", "known_tool", "arguments", "call_count", "no_loop"})
"""Checks of a draft's form: what they refuse never comes before a verifier, and teaches none."""
DOUBTS = frozenset({"verifier", "judge", "agreement", "logprob", "no_refusal", "traceable"})
"""Checks that may be wrong themselves: what the tier above did instead says whether they were."""
LATE = "did not answer within"
"""How a tool's time runs out, which says nothing of the call."""


class Labelled(NamedTuple):
    """A draft, whether it was wrong, and how that is known: `why` is a check, tool or person."""

    session: str
    turn: int
    step: int
    row: Judged
    wrong: bool
    why: str
    at: float


class _Label(NamedTuple):
    wrong: bool
    why: str


def drafts(memory: Memory, *, tier: str, agent: str = "") -> list[Labelled]:
    """Return a tier's drafts of which it is known whether they were wrong, oldest first.

    A refused draft was wrong if a check says so that cannot err, or else if what was accepted in
    its place does something else. An accepted one was wrong if a person rejected or changed its
    call, a tool gave an error that the same call did not get over, or it ended a turn that people
    were not content with; it was right if its turn was done and none of this happened.

    Args:
        memory: whose ledger it is.
        tier: whose drafts.
        agent: only this agent's.
    """
    graded = scores(memory)
    calls = [
        call
        for call in memory.ledger.calls()
        if call.purpose == "act" and call.tier == tier and agent in ("", call.agent)
    ]
    found: list[Labelled] = []
    for name, made in groupby(sorted(calls, key=lambda c: (c.session, c.id)), lambda c: c.session):
        session = _Session(memory, name, graded)
        for call in made:
            draft, label = session.judged(call)
            if draft is not None and label is not None:
                row = Judged.of(draft, session.context(call))
                found.append(Labelled(name, call.turn, call.step, row, *label, call.started_at))
    return sorted(found, key=lambda one: one.at)


class _Session:
    """One session's log, read once."""

    def __init__(self, memory: Memory, name: str, graded: Mapping[tuple[str, int], float]) -> None:
        self._memory, self._name = memory, name
        self._scores = {turn: score for (session, turn), score in graded.items() if session == name}
        self._records = memory.history(name).records()
        self._turns: dict[int, list[Record]] = defaultdict(list)
        for record in self._records:
            self._turns[record.turn].append(record)
        self._epochs: dict[int, Epoch] = {}

    def judged(self, call: Call) -> tuple[Draft | None, _Label | None]:
        """Return the draft that a call got, and its label; None where nothing is known."""
        accepted = self._accepted(call)
        if call.outcome == "ok":
            return accepted, self._of_accepted(call, accepted) if accepted else None
        blocks = call.decision.get("draft")
        check = call.outcome.removeprefix("check:")
        if blocks is None or check == call.outcome or check in FORMAL:
            return None, None
        draft = drafted(blocks)
        if check not in DOUBTS:
            return draft, _Label(wrong=True, why=call.outcome)
        if accepted is None:
            return draft, None
        return draft, _Label(wrong=not agree(draft, accepted), why=call.outcome)

    def context(self, call: Call) -> CheckContext:
        """Return what a draft was judged against, as far as a verifier looks at it."""
        epoch = self._epoch(call.epoch)
        shown = [
            record.entry
            for record in self._records
            if record.kind in SHOWN and epoch.base < record.seq <= call.head
        ]
        known = ToolView.of(epoch.tools, shown)
        tools = dict.fromkeys(known.declared, ToolFacts({})) | {
            name: ToolFacts(canonical.loads(spec.parameters), description=spec.description)
            for name, spec in known.offered.items()
        }
        said = [
            block["text"]
            for record in self._turns[call.turn]
            if record.kind == "user" and record.seq <= call.head
            for block in record.entry.blocks
        ]
        seen = shown_text(epoch.segments, shown, call.tail)
        return CheckContext(tools, seen, call.tier, Step("\n".join(said), call.turn, call.step))

    def _epoch(self, number: int) -> Epoch:
        if number not in self._epochs:
            memory = self._memory
            load = partial(load_epoch, tenant=memory.tenant, number=number)
            self._epochs[number] = memory.database.read(
                lambda c: load(c, session_id=memory.find(c, self._name).id)
            )
        return self._epochs[number]

    def _accepted(self, call: Call) -> Draft | None:
        """Return what a model's draft of a call's step was in the end; a fallback is none."""
        for record in self._turns[call.turn]:
            if record.kind == "assistant" and record.step == call.step:
                body = canonical.loads(record.body)
                return drafted(body["blocks"]) if body.get("model") else None
        return None

    def _of_accepted(self, call: Call, draft: Draft) -> _Label | None:
        records = self._turns[call.turn]
        mine = {one.id for one in draft.calls}
        if any(_overruled(record, mine) for record in records):
            return _Label(wrong=True, why="approval")
        failed = [one for one in draft.calls if self._failed(one, records)]
        if any(LATE in self._said(one, records) for one in failed):
            return None
        if failed:
            return _Label(wrong=True, why=f"tool:{failed[0].name}")
        if self._status(records) != "done":
            return None
        score = self._scores.get(call.turn)
        if score is None:
            return _Label(wrong=False, why="accepted")
        if score >= GOOD:
            return _Label(wrong=False, why="feedback")
        return None if draft.calls else _Label(wrong=True, why="feedback")

    def _failed(self, call: DraftCall, records: Sequence[Record]) -> bool:
        """Say whether a call got an error that the same call did not get over in this turn."""
        blocks = _blocks(records)
        results = [b for b in blocks if b.get("type") == "result" and b["id"] == call.id]
        if not any(block["error"] for block in results):
            return False
        again = [past for past in past_calls(blocks) if call_key(past) == call_key(call)]
        return all(past.error for past in again)

    def _said(self, call: DraftCall, records: Sequence[Record]) -> str:
        return " ".join(
            b["text"] for b in _blocks(records) if b.get("id") == call.id and "text" in b
        )

    def _status(self, records: Sequence[Record]) -> str:
        ends = [canonical.loads(r.body).get("status", "") for r in records if r.kind == "end"]
        return next((str(status) for status in ends if status != "maintained"), "")


def _blocks(records: Sequence[Record]) -> list[dict[str, Any]]:
    return [b for r in records if r.kind in ("assistant", "tool") for b in r.entry.blocks]


def _overruled(record: Record, calls: set[str]) -> bool:
    """Say whether a record rejects or changes one of some calls, for a person or the policy."""
    if record.kind != "approval":
        return False
    body = canonical.loads(record.body)
    return body.get("call") in calls and body["decision"].get("type") in ("reject", "edit")
