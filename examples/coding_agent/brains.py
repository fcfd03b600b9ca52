"""Stand-ins for models, so that the example runs without a key: rules, not intelligence.

`student` looks around: it lists, runs the tests, searches and reads. `flagship` plans, edits,
runs the tests again and commits. Both are functions from a request to an answer, without state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from agentmesh.emulator import Answer, Request
from agentmesh.examples.coding_agent.repair import Edit, State, arguments, candidates, replay
from agentmesh.examples.coding_agent.transcript import (
    STRETCH,
    Place,
    Transcript,
    failures,
    first_line,
    is_test,
)

Brain = Callable[[Request], Answer]
Calls = list[tuple[str, dict[str, Any]]]

STUDENT = "claude-haiku-5-5"
FLAGSHIP = "claude-opus-5-5"
_MOST_READ = 6
_BARRED = "I could not run the tests, and without them I change nothing."


def student(request: Request) -> Answer:
    """Look until there is nothing left to look at, then say what was found."""
    transcript = Transcript.of(request)
    if transcript.barred:
        return Answer(_BARRED)
    if transcript.to_fix:
        return flagship(request)
    if calls := _looking(transcript):
        return Answer(calls=calls)
    return Answer(_findings(transcript))


def flagship(request: Request) -> Answer:
    """Plan, edit, test and commit; give up when there is nothing left to try."""
    transcript = Transcript.of(request)
    if transcript.barred:
        return Answer(_BARRED)
    if calls := _looking(transcript):
        return Answer(calls=calls)
    if not transcript.to_fix or not failures(transcript.runs[0].text):
        return Answer(_findings(transcript))
    state = replay(transcript)
    if not transcript.calls("set_plan"):
        return Answer(calls=[("set_plan", _plan(transcript))])
    if state.untested:
        return Answer(calls=[("run_command", {"command": transcript.command})])
    if state.pending:
        back = state.pending._replace(new=state.before)
        return Answer(calls=[("edit_file", arguments(state, back))])
    return _next(transcript, state)


BRAINS: Mapping[str, Brain] = {STUDENT: student, FLAGSHIP: flagship}
"""Which stand-in answers for which model."""


def _next(transcript: Transcript, state: State) -> Answer:
    """Try the next edit, or end: with a commit, or with what could not be done."""
    if state.left == 0:
        if not transcript.calls("git_commit"):
            return Answer(calls=[("git_commit", {"message": _message(state.kept)})])
        return Answer(f"The tests pass. {_message(state.kept)} It is committed.")
    changed = {(edit.path, edit.line) for edit in state.kept}
    for edit in candidates(transcript):
        if edit not in state.tried and (edit.path, edit.line) not in changed:
            return Answer(calls=[("edit_file", arguments(state, edit))])
    return Answer(f"I could not repair it: {state.left} tests still fail, and I am out of ideas.")


def _looking(transcript: Transcript) -> Calls:
    """Return the calls that tell more about the failure; none when all is known."""
    if not transcript.calls("list_files"):
        return [("list_files", {"path": ".", "depth": 6})]
    if not transcript.runs:
        return [("run_command", {"command": transcript.command})]
    if not failures(transcript.runs[0].text):
        return []
    if calls := _reading(transcript, sorted(transcript.failing)):
        return calls
    if not transcript.calls("search_files"):
        names = "|".join(transcript.names) or r"\w+"
        return [("search_files", {"pattern": rf"(def|class) ({names})\b", "glob": "*.py"})]
    return _reading(transcript, transcript.definitions)


def _reading(transcript: Transcript, places: Iterable[Place]) -> Calls:
    wanted = transcript.unread(places)[:_MOST_READ]
    return [
        (
            "read_file",
            {"path": x.path, "start": first_line(x), "end": first_line(x) + STRETCH + 20},
        )
        for x in wanted
    ]


def _findings(transcript: Transcript) -> str:
    left = failures(transcript.runs[0].text) if transcript.runs else 0
    if not left:
        return "All tests pass; there is nothing to repair."
    tests = sorted({place.path for place in transcript.failing if is_test(place.path)})
    found = [f"{place.path}:{place.line}" for place in transcript.definitions]
    places = ", ".join(found[:_MOST_READ]) + (" and more" if len(found) > _MOST_READ else "")
    return f"{left} tests fail, in {', '.join(tests)}. They lead to {places or 'no definition'}."


def _plan(transcript: Transcript) -> dict[str, Any]:
    sources = sorted({place.path for place in transcript.definitions})
    plan = "Try small repairs where the failing tests lead, keep what helps, then commit."
    return {"plan": plan, "files": sources}


def _message(kept: list[Edit]) -> str:
    places = "; ".join(f"{edit.path}:{edit.line} is now `{edit.new.strip()}`" for edit in kept)
    return f"Repair what the tests found wrong: {places}."
