"""Learning about the user: facts that a finished turn suggests, each with its evidence.

Off unless an agent is given a `Learning`. A side call on the prompt at hand proposes items for the
Profile and the Task; each must quote what it rests on, and the quote must stand in this turn's log.
Who said it decides what becomes of it: the user's own words may become a fact at once, a tool's
words enter the Profile only as the developer's policy allows, and nothing that a user or developer
has stated is overwritten by a proposal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from agentmesh import canonical
from agentmesh.economy.cost_model import Rates
from agentmesh.errors import ConfigError, ConflictError, InputError
from agentmesh.memory.compaction import text_of
from agentmesh.memory.promotion import Claim, Promotion, check_promotion, judge
from agentmesh.rolling import Rolling

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from agentmesh.act import Act
    from agentmesh.memory import Bucket, Item, Memory, Turn
    from agentmesh.memory.items import Source
    from agentmesh.memory.sessions import Record
    from agentmesh.parts import Parts
    from agentmesh.state import State
    from agentmesh.tiers import Tier

INSTRUCTION = """\
Before the conversation goes on: which lasting facts does the last turn hold that a later \
conversation should know? Answer with JSON alone: {{"items": [{{"bucket": "profile", "key": \
"language", "value": "German", "quote": "..."}}]}}. `bucket` is "profile" for what is true of the \
user, "task" for what this task needs; `quote` is copied word for word from what the user or a tool \
said in the last turn. At most {most} items; {{"items": []}} if there is none. Call no tool."""

PROPOSAL, DECISION = "proposal", "decision"
OWED, LEARNT = "learn", "learnt"
"""Records that say that a turn is still to be learned from, and that all before it are."""

_OUTPUT = 200
_OWN = ("user", "developer")
_QUOTE_CHARS = 3


class Proposal(NamedTuple):
    """A fact that a turn suggests; `id` is its place in the log, `evidence` that of the quote.

    `outcome` is `stored`, `pending` (a person is to decide), `refused` by the policy, `kept` (what
    somebody stated stands), `conflict` (it was edited meanwhile), `full`, or after a decision
    `accepted` or `rejected`.
    """

    id: int
    bucket: Literal["profile", "task"]
    key: str
    value: Any
    quote: str
    evidence: int
    trust: Literal["user", "untrusted"]
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class Learning:
    """How an agent learns about its users.

    Args:
        promote: what may enter the Profile that the user did not say; as the agent's `Memory`
            says, if left out.
        tier: which tier proposes; the one whose call costs least, if left out.
        most: items that one turn may propose.
        when: "turn" learns before a turn ends; "idle" leaves it to `Agent.idle`, so that no reply
            waits for it. What is owed stands in the log: no crash loses it.
    """

    promote: Promotion | None = None
    tier: str | None = None
    most: int = 8
    when: Literal["turn", "idle"] = "turn"

    def __post_init__(self) -> None:
        if self.promote is not None:
            check_promotion(self.promote)
        if not isinstance(self.most, int) or self.most < 1:
            raise ConfigError(f"most={self.most!r}", hint="give a number of 1 or more")
        if self.when not in ("turn", "idle"):
            raise ConfigError(f"when={self.when!r}", hint="'turn' or 'idle'")


class Learner:
    """Proposes and stores what the turns of one agent teach."""

    def __init__(self, parts: Parts, act: Act) -> None:
        self._parts = parts
        self._act = act
        self._rolling = Rolling(parts, act)
        if parts.learning is not None and parts.learning.tier is not None:
            parts.tier(parts.learning.tier)  # an unknown one is told here

    def run(self, state: State, turn: Turn, config: RunnableConfig) -> None:
        """Learn from a turn that was answered; whatever goes wrong, the turn is as it was."""
        learning = self._parts.learning
        if learning is None or not state.get("tier"):
            return
        if learning.when == "idle":
            turn.add(OWED, [], state["step"], tier=state["tier"])
            if self._rolling.due(turn, self._parts.tier(state["tier"])) is None:
                return  # else this is the last time that all of it is shown
            self.settle(state, turn, config)
            return
        self._learn(state, turn, config, learning, turn.records)

    def settle(self, state: State, turn: Turn, config: RunnableConfig) -> bool:
        """Learn from all turns that are owed; false if none is."""
        learning = self._parts.learning
        marks = owed(turn)
        if learning is None or not marks:
            return False
        turns = {record.turn for record in marks}
        records = [record for record in turn.view.records if record.turn in turns]
        self._learn(state, turn, config, learning, records)
        turn.add(LEARNT, [], state["step"])
        return True

    def _learn(
        self,
        state: State,
        turn: Turn,
        config: RunnableConfig,
        learning: Learning,
        records: Sequence[Record],
    ) -> None:
        tier = self._tier(state, turn, learning)
        buckets = {
            "profile": self._parts.memory.profile(turn.user),
            "task": self._parts.memory.task(turn.session),
        }
        known = {
            (name, item.key): item for name, bucket in buckets.items() for item in bucket.items()
        }
        tail = _instruction(learning.most, len({record.turn for record in records}))
        said = self._act.side_call(state, turn, config, tier=tier, purpose="learn", tail=tail)
        for proposal in _proposals(said, records, learning.most):
            held = known.get((proposal.bucket, proposal.key))
            if held is not None and held.value == proposal.value:
                continue
            outcome = self._allowed(proposal, held, turn)
            if outcome == "stored":
                expect = held.revision if held else 0
                outcome = _store(buckets[proposal.bucket], proposal, turn.session, expect)
            _log(turn, proposal, outcome)

    def _allowed(self, proposal: Proposal, held: Item | None, turn: Turn) -> str:
        """Return what becomes of a proposal, before it is tried."""
        given = self._parts.learning.promote if self._parts.learning else None
        promote = self._parts.memory.promote if given is None else given
        if held is not None and held.source in _OWN:
            return "pending" if promote == "ask" else "kept"
        return judge(promote, _claim(proposal, turn))

    def _tier(self, state: State, turn: Turn, learning: Learning) -> Tier:
        """Return the tier whose call costs least: the warm one reads, any other writes it all."""
        if learning.tier is not None:
            return self._parts.tier(learning.tier)
        warm = self._parts.tier(state["tier"])
        length = sum(tokens for _, tokens in turn.epoch.tokens)
        length += sum(entry.tokens for entry in turn.view.shown)

        def cost(tier: Tier) -> float:
            try:
                rates = Rates.of(tier.model_name, self._parts.prices, tokens=length)
            except ConfigError:
                return float("inf")
            return (rates.read if tier is warm else rates.write) * length + rates.output * _OUTPUT

        return min((warm, *self._parts.tiers), key=cost)


def owed(turn: Turn) -> list[Record]:
    """Return what says that turns are still to be learned from, oldest first."""
    found: list[Record] = []
    for record in reversed(turn.view.records):
        if record.kind == LEARNT:
            break
        if record.kind == OWED:
            found.append(record)
    return found[::-1]


def _instruction(most: int, turns: int) -> str:
    asked = INSTRUCTION.format(most=most * turns)
    return asked if turns == 1 else asked.replace("the last turn", f"the last {turns} turns")


def _proposals(said: str, log: Sequence[Record], most: int) -> list[Proposal]:
    """Return what a model proposed, as far as it is well formed and its quote was said."""
    start, end = said.find("{"), said.rfind("}")
    try:
        given = json.loads(said[start : end + 1])
    except ValueError:
        return []
    items = given.get("items") if isinstance(given, dict) else None
    records = [r for r in log if r.kind in ("user", "tool")]
    most *= max(1, len({record.turn for record in records}))
    found = (_proposal(item, records) for item in (items if isinstance(items, list) else [])[:most])
    return [proposal for proposal in found if proposal is not None]


def _proposal(item: Any, records: Sequence[Record]) -> Proposal | None:
    if not isinstance(item, dict) or item.get("bucket") not in ("profile", "task"):
        return None
    key, value, quote = item.get("key"), item.get("value"), item.get("quote")
    if not isinstance(key, str) or value is None or not isinstance(quote, str):
        return None
    words = " ".join(quote.split())
    if len(words) < _QUOTE_CHARS:
        return None
    for record in records:
        if words in " ".join(text_of(record).split()):
            trust: Literal["user", "untrusted"] = "user" if record.kind == "user" else "untrusted"
            return Proposal(0, item["bucket"], key, value, quote, record.seq, trust)
    return None


def _claim(proposal: Proposal, turn: Turn) -> Claim:
    return Claim(
        bucket=proposal.bucket,
        owner=turn.user if proposal.bucket == "profile" else turn.session,
        key=proposal.key,
        value=proposal.value,
        source=_source(proposal),
        author=_author(proposal, turn.session),
        trust=proposal.trust,
        quote=proposal.quote,
    )


def _source(proposal: Proposal) -> Source:
    return "agent" if proposal.trust == "user" else "tool"


def _author(proposal: Proposal, session: str) -> str:
    return f"{session}#{proposal.evidence}"


def _store(bucket: Bucket, proposal: Proposal, session: str, expect: int | None) -> str:
    source, author = _source(proposal), _author(proposal, session)
    try:
        bucket.set(
            proposal.key, proposal.value, source=source, author=author, expect=expect, agreed=True
        )
    except ConflictError:
        return "conflict"
    except InputError:  # no key, or the bucket is full
        return "full"
    return "stored"


def _log(turn: Turn, proposal: Proposal, outcome: str) -> None:
    """Keep a proposal in the log, where no prompt shows it."""
    fields = proposal._replace(outcome=outcome)._asdict()
    turn.add(PROPOSAL, [], item={name: value for name, value in fields.items() if name != "id"})


def proposals(memory: Memory, session: str, *, outcome: str | None = None) -> list[Proposal]:
    """Return what a session's turns have proposed, oldest first; of one outcome where given."""
    found: dict[int, Proposal] = {}
    for record in memory.history(session).records():
        if record.kind == PROPOSAL:
            found[record.seq] = Proposal(record.seq, **canonical.loads(record.body)["item"])
        elif record.kind == DECISION:
            body: Mapping[str, Any] = canonical.loads(record.body)
            if body["proposal"] in found:
                number = body["proposal"]
                found[number] = found[number]._replace(outcome=body["outcome"])
    return [p for p in found.values() if outcome in (None, p.outcome)]


def decide(memory: Memory, session: str, proposal: int, *, accept: bool) -> Proposal:
    """Store a pending proposal, or reject it: what a person says of it.

    Raises:
        InputError: it is not pending, or the session is busy.
    """
    waiting = {p.id: p for p in proposals(memory, session, outcome="pending")}
    if proposal not in waiting:
        raise InputError(
            f"{proposal!r} is no pending proposal", hint=f"pending: {sorted(waiting) or 'none'}"
        )
    one = waiting[proposal]
    turn = memory.maintain(session)
    if turn is None:
        raise InputError(f"session {session!r} is busy", hint="try again when its turn has ended")
    try:
        outcome = "rejected"
        if accept:
            owner = memory.profile(turn.user) if one.bucket == "profile" else memory.task(session)
            done = _store(owner, one, session, None)
            outcome = "accepted" if done == "stored" else done
        turn.add(DECISION, [], proposal=proposal, outcome=outcome)
        turn.add("end", [], status="maintained")
    finally:
        turn.flush("idle")
    return one._replace(outcome=outcome)


__all__ = ["Learning", "Promotion", "Proposal", "decide", "proposals"]
