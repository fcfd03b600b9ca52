"""The trace: 40 turns of six calls each, with memory edits and pauses, the same for every agent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agentmesh.testing import Answer, Request

MODEL = "claude-opus-5-5"
TURNS = 40
LOOKUPS = 5  # and one call that answers
SYSTEM_CHARS = 28_000
RESULT_CHARS = 3_600
ANSWER_CHARS = 480
DIGEST_CHARS = 2_400
EDIT_EVERY = 3
CALL_S = 4.0
PAUSE_S = 40.0

POLICY = "\n".join(
    f"Rule {n}: look up what you state, name the record's number, and promise nothing that rule"
    f" {n * 7 % 280} does not allow."
    for n in range(400)
)[:SYSTEM_CHARS]

QUESTIONS = "Please compare what the records say for case {turn} and tell me what has changed."


@dataclass
class Clock:
    """Time that passes only where the trace says so."""

    now: float = 1_800_000_000.0
    digests: int = 0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Gaps:
    """A pause of `long_s` seconds after every `every` turns; all others are short."""

    every: int
    long_s: float

    def after(self, turn: int) -> float:
        """Return how long the user is away after a turn (the first is 1)."""
        return self.long_s if turn % self.every == 0 and turn < TURNS else PAUSE_S


def record(number: int) -> str:
    """Return what the tool finds: 0.9k tokens of text that no other call gives."""
    lines = (f"record {number}, field {n}: value {number * 7919 + n * 31}" for n in range(120))
    return "\n".join(lines)[:RESULT_CHARS]


def facts(turn: int) -> dict[str, str]:
    """Return what is known about the user after the edits up to a turn."""
    edits = (turn - 1) // EDIT_EVERY
    known = {
        f"preference_{n}": f"as agreed on visit {n}, by letter and never by phone"
        for n in range(12)
    }
    for edit in range(1, edits + 1):
        known[f"preference_{edit % 12}"] = f"changed on request {edit}: by phone, before noon"
    return known


def brain(clock: Clock) -> Callable[[Request], Answer]:
    """Return the model: five look-ups, then an answer; a digest where one is asked for."""

    def answer(request: Request) -> Answer:
        clock.now += CALL_S
        if digest_wanted(request):
            clock.digests += 1
            return Answer(("The user compares records. " * 100)[:DIGEST_CHARS])
        if "The user is away" in request.user_text:
            return Answer("waiting")
        done = 0
        for message in reversed(request.messages):
            if message.role == "user":
                break
            done += message.role == "tool"
        turn = int(request.user_text.split("case ")[-1].split()[0])
        if done < LOOKUPS:
            number = turn * LOOKUPS + done
            said = f"I look up record {number} to compare it with the one before. " * 2
            return Answer(said, [("look_up", {"number": number})])
        return Answer((f"In case {turn} nothing but the dates has changed. " * 20)[:ANSWER_CHARS])

    return answer


def digest_wanted(request: Request) -> bool:
    """Say whether a request asks for an account of the conversation: ours or LangChain's."""
    said = request.user_text
    return "about to be shortened" in said or "Messages to summarize" in said


def turns() -> Iterator[tuple[int, str]]:
    """Yield each turn's number and what the user says."""
    for turn in range(1, TURNS + 1):
        yield turn, QUESTIONS.format(turn=turn)
