"""Which calls of a draft may run: decided on labels and definitions, and by a person where asked.

Every decision is an entry of the log: which call, what was decided, by whom and why; the entry's
own time says when.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphInterrupt
from langgraph.types import interrupt

from agentmesh import canonical
from agentmesh.errors import InputError
from agentmesh.tools import Label, Permission, permitted
from agentmesh.toolview import ToolView

if TYPE_CHECKING:
    from agentmesh.memory import Turn
    from agentmesh.memory.sessions import Record
    from agentmesh.parts import Parts
    from agentmesh.state import State

DECISIONS = ["approve", "edit", "reject", "respond"]

POLICY = "policy"
"""Who has decided where no person was asked."""

_FACTS = ("org", "profile", "task")
_UNVERIFIED = " [unverified]"  # how a prompt marks a fact that a tool or an import stated


class Approval(TypedDict):
    """What was decided of one call, by whom and why it had to be."""

    call: str
    decision: dict[str, Any]
    by: str
    why: str


class Approvals:
    """Decides on the calls of a draft."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def decided(
        self, draft: AIMessage, turn: Turn, state: State, config: RunnableConfig
    ) -> dict[str, dict[str, Any]]:
        """Return the decision on every call that needed one, by its id; it is in the log.

        Asks a person first where that is due; nothing has run until then. What was decided
        before a crash holds.
        """
        step = state["step"]
        known = {item["call"]: item["decision"] for item in approvals(turn.records, step)}
        verdicts = self._verdicts(draft, turn, step)
        open_calls = [call for call in draft.tool_calls if str(call["id"]) not in known]
        asked = [call for call in open_calls if verdicts[str(call["id"])].verdict == "ask"]
        denied = [call for call in open_calls if verdicts[str(call["id"])].verdict == "deny"]
        given = config.get("configurable", {})
        answer = given.get("answer") if state.get("resume") else None  # to what was asked before
        answers = self._ask(asked, verdicts, turn, answer) if asked else []
        by = str(given.get("by") or turn.user)
        for call, answer in zip(asked, answers, strict=True):
            self._log(turn, step, call, answer, by, verdicts)
            if answer["type"] in ("approve", "edit") and self._unpinned(call["name"]):
                self._parts.pins.approve(call["name"], by=by)  # type: ignore[union-attr]  # it asked
        for call in denied:
            why = verdicts[str(call["id"])].reason
            answer = {"type": "reject", "message": f"Not allowed: {why}."}
            self._log(turn, step, call, answer, POLICY, verdicts)
        if asked or denied:
            turn.flush()
        return {item["call"]: item["decision"] for item in approvals(turn.records, step)}

    def _ask(
        self, asked: list[Any], verdicts: dict[str, Permission], turn: Turn, answer: Any
    ) -> list[dict[str, Any]]:
        """Return a person's decisions; the turn waits without its lease until they are there.

        `answer` came with the run; without one LangGraph's interrupt asks.
        """
        question = self._question(asked, verdicts)
        if answer is not None:
            try:
                return check_decisions(answer, len(asked))
            except InputError:
                turn.wait()
                raise
        while True:
            try:
                answer = interrupt(question)
            except GraphInterrupt:
                turn.wait()
                raise
            try:
                return check_decisions(answer, len(asked))
            except InputError as error:  # an interface sent what decides nothing: ask again
                question = {**question, "error": f"{error}; {error.hint}"}

    def _question(self, asked: list[Any], verdicts: dict[str, Permission]) -> dict[str, Any]:
        """Return the question in the shape that LangGraph's own interfaces show."""
        known = self._parts.catalogue.by_name
        return {
            "action_requests": [
                {
                    "name": call["name"],
                    "args": call["args"],
                    "description": (
                        f"{known[call['name']].description}"
                        f"\n\nAsked because {verdicts[str(call['id'])].reason}."
                    ),
                }
                for call in asked
            ],
            "review_configs": [
                {"action_name": call["name"], "allowed_decisions": DECISIONS} for call in asked
            ],
        }

    def _log(
        self,
        turn: Turn,
        step: int,
        call: Any,
        decision: dict[str, Any],
        by: str,
        verdicts: dict[str, Permission],
    ) -> None:
        why = verdicts[str(call["id"])].reason
        turn.add("approval", [], step, call=str(call["id"]), decision=decision, by=by, why=why)

    def _verdicts(self, draft: AIMessage, turn: Turn, step: int) -> dict[str, Permission]:
        """Return for each call whether it may run: decided outside the model."""
        stated, labels = self._parts.catalogue.declarations, self._labels(turn, step)
        verdicts = {}
        for call in draft.tool_calls:
            if call["name"] not in stated:  # the turn is older than the tools: it answers so
                verdicts[str(call["id"])] = Permission("allowed", "")
                continue
            verdict = permitted(stated[call["name"]], labels, call["args"])
            if verdict.verdict != "deny" and (changed := self._unpinned(call["name"])):
                verdict = Permission("ask", changed)
            verdicts[str(call["id"])] = verdict
        return verdicts

    def _unpinned(self, name: str) -> str:
        return self._parts.pins.asks(name) if self._parts.pins is not None else ""

    def _labels(self, turn: Turn, step: int) -> list[Label]:
        """Return the labels of all that the model was shown before it drafted this step.

        A digest is worth as little as the least of what it may have been made from.
        """
        toolset = self._parts.toolset
        labels = [Label("user")]
        texts = [segment.text for segment in turn.epoch.segments if segment.name in _FACTS]
        for entry in turn.view.shown:
            for block in entry.blocks:
                if block["type"] == "result":
                    if (entry.turn, entry.step) == (turn.number, step):
                        continue  # of a call beside this one: the draft was made before
                    stated = toolset.stated(block["name"])
                    labels.append(Label(stated.trust, stated.confidentiality))
                elif entry.kind == "note":
                    texts.append(block["text"])
        if any(line.endswith(_UNVERIFIED) for text in texts for line in text.split("\n")):
            labels.append(Label("untrusted"))
        if turn.epoch.digest:
            shown = ToolView.of(turn.epoch.tools, turn.view.shown).declared
            known = [toolset.stated(name) for name in shown | toolset.declared.keys()]
            labels += [Label(stated.trust, stated.confidentiality) for stated in known]
        return labels


def approvals(records: list[Record], step: int | None = None) -> list[Approval]:
    """Return the decisions in a log (of one step, where given), oldest first."""
    bodies = [
        canonical.loads(record.body)
        for record in records
        if record.kind == "approval" and step in (None, record.step)
    ]
    return [
        Approval(
            call=body["call"],
            decision=body["decision"],
            by=body.get("by", ""),
            why=body.get("why", ""),
        )
        for body in bodies
    ]


def check_decisions(answer: Any, count: int) -> list[dict[str, Any]]:
    """Return one decision per call from what a person answered."""
    hint = f"one of {', '.join(DECISIONS)} for each call: {{'decisions': [{{'type': 'approve'}}]}}"
    if isinstance(answer, bool):
        return [{"type": "approve" if answer else "reject"}] * count
    if isinstance(answer, str):
        answer = {"decisions": [{"type": answer}] * count}
    decisions = answer.get("decisions") if isinstance(answer, dict) else answer
    if not isinstance(decisions, list) or len(decisions) != count:
        raise InputError(f"{answer!r} does not answer {count} approval(s)", hint=hint)
    for decision in decisions:
        kind = decision.get("type") if isinstance(decision, dict) else None
        edited = decision.get("edited_action") if isinstance(decision, dict) else None
        if kind not in DECISIONS or (
            kind == "edit"
            and not (isinstance(edited, dict) and isinstance(edited.get("args"), dict))
        ):
            raise InputError(f"{decision!r} is not a decision", hint=hint)
    return decisions
