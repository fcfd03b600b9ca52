"""Stand-ins for models, so that the example runs without a key: rules, not intelligence.

`flagship` settles what a customer writes by the desk's policy and through its tools. `standard`
can do the everyday part of it, `student` the simplest; on the rest both fail as small models
do: with a tool that does not exist, an argument that is missing or invalid, an order number out
of thin air, an empty answer, a refusal, a claim that nothing backs, or an answer that looks fine
and does not help. All three are stateless functions from a request to an answer.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping

from agentmesh.emulator import Answer, Request
from agentmesh.examples.customer_support.skills import SKILLS, Ask
from agentmesh.examples.customer_support.turn import Arguments, Missing, ToolFailed, Turn, read
from agentmesh.examples.customer_support.wishes import Wish

Brain = Callable[[Request], Answer]

_ANGRY = re.compile(
    r"\b(?:ridiculous|unacceptable|joke|angry|furious|worst|terrible|useless|fed up|disgrace|scam|"
    r"unverschämt|frechheit|sauer|inacceptable|vergüenza)\b|!{2,}|\bwtf\b",
    re.IGNORECASE,
)
_SETTLED = frozenset({"address", "cancel", "exchange", "fault", "money_back", "return", "status"})

STUDENT_SKILLS = frozenset({"status", "help", "my_account", "thanks", "greeting"})
"""What the student does well: it looks up and answers, in English and German."""

STANDARD_SKILLS = STUDENT_SKILLS | {"product", "cancel", "address", "return", "spam", "off_topic"}
"""What the standard stand-in does well: one or two everyday wishes at a time."""


def flagship(request: Request) -> Answer:
    """Settle every wish of the message: the stand-in for a capable model."""
    return _answer(read(request))


def standard(request: Request) -> Answer:
    """Settle everyday wishes; on the rest fail now and then: the stand-in for a middling model."""
    turn = read(request)
    if _within(turn, STANDARD_SKILLS, wishes=2) or _dice(turn, 3) == 0:
        return _answer(turn)
    return _failed(turn)


def student(request: Request) -> Answer:
    """Settle one simple wish; on the rest fail plausibly: the stand-in for a small model."""
    turn = read(request)
    return _answer(turn) if _within(turn, STUDENT_SKILLS, wishes=1) else _failed(turn)


BRAINS: Mapping[str, Brain] = {
    "claude-opus-5-5": flagship,
    "claude-haiku-4-5": standard,
    "desk-student": student,
}
"""Which stand-in answers for which model."""


def _answer(turn: Turn) -> Answer:
    """Return the calls that are still missing, or the answer that puts all parts together."""
    calls: list[tuple[str, Arguments]] = []
    parts: list[str] = []
    settled = True
    for wish in turn.wishes or (Wish("", turn.text),):
        try:
            parts.append(SKILLS[wish.intent](turn, wish))
        except Missing as missing:
            if (missing.name, missing.arguments) not in calls:
                calls.append((missing.name, missing.arguments))
        except Ask as ask:
            parts.append(str(ask))
            settled = False
        except ToolFailed as failed:
            parts.append(str(failed).removeprefix("Error: "))
            settled = False
        settled = settled and wish.intent in _SETTLED
    if calls:
        return Answer(calls=calls)
    return Answer(_dressed(turn, parts, settled=settled))


def _dressed(turn: Turn, parts: list[str], *, settled: bool) -> str:
    opening = []
    if turn.first and turn.profile.get("name"):
        opening.append(turn.say("greeting", name=turn.profile["name"].split()[0]))
    if _ANGRY.search(turn.text):
        opening.append(turn.say("sorry"))
    closing = [turn.say("closing")] if settled else []
    return " ".join([*opening, *parts, *closing])


def _within(turn: Turn, skills: frozenset[str], *, wishes: int) -> bool:
    known = all(wish.intent in skills for wish in turn.wishes)
    return bool(turn.wishes) and known and len(turn.wishes) <= wishes and turn.language in "en de"


def _dice(turn: Turn, sides: int) -> int:
    """Return a number that depends on the customer's words alone."""
    return zlib.crc32(turn.text.encode(errors="replace")) % sides


def _failed(turn: Turn) -> Answer:
    """Return one of the ways in which a small model fails, the same for the same words."""
    order = next((wish.order for wish in turn.wishes if wish.order), turn.order)
    failures = (
        Answer(calls=[("get_order_details", {"order_number": order or "unknown"})]),
        Answer(calls=[("refund", {"order": order or "my last order"})]),
        Answer(calls=[("return_item", {"order": order, "product": "it", "reason": "no reason"})]),
        Answer(calls=[("order_status", {"order": f"W-{90000 + _dice(turn, 9999)}"})]),
        Answer(calls=[("refund", '{"order": "W-10')]),
        Answer(),
        Answer("I'm sorry, but I can't help with that.", stop="refusal"),
        Answer("I have refunded the full amount to your card. It will be there tomorrow."),
        Answer("Thank you for your message. Please have a look at our website for more details."),
    )
    return failures[_dice(turn, len(failures))]
