"""The checks that every draft passes before it has an effect. None of these calls a model.

A check is a function `(Draft, CheckContext) -> str | None`: why the draft may not be used, or None.
`default_checks()` run first, the cheapest first; the developer's own follow in the order given
(`Agent(checks=[...])`), and the first reason ends the draft.

What a check may look at is its `CheckContext`. Whoever runs the checks fills it: `seen` with every
text of the prompt (its volatile end, too), `past` from the turn's log (`past_calls(blocks)`), `top`
where no tier is above, `Draft.logprob` from `response_metadata["logprob"]`, and for those that ask a
model (`agentmesh.routing.judges`) `ask` and `again`, whose calls the ledger knows by their purpose.
What does no harm (words that read like a refusal, an unseen number or a repetition in a call that
only reads) is let pass at the top, where nobody could do better.

The bar is the developer's: `only(check, "external", "refund")` holds a check to some side effects
or tools, and checks that measure something take `bars=` by side effect or tool name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from agentmesh import canonical
from agentmesh.errors import ConfigError
from agentmesh.routing.drafts import (
    EFFECTS,
    TEXT,
    Check,
    CheckContext,
    Draft,
    DraftCall,
    PastCall,
    call_key,
    check_name,
    worst_effect,
)
from agentmesh.routing.steps import Failure
from agentmesh.routing.traced import untraced

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

MOST_CALLS = 16
"""Calls that one draft may make: more at once is a model that has lost its way."""
SAME_CALLS = 2
"""How often a turn may make the same call with the same result and nothing new in between."""

_REFUSAL = re.compile(
    r"\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    r"|\bi(?:'m| am) (?:just|only) an? (?:ai|language model)\b"
    r"|\b(?:can(?:no|')t|can not|won't|will not|unable to|not able to) "
    r"(?:assist|help(?: you)?|comply|fulfil?l) (?:with )?(?:that|this|your request)\b",
    re.IGNORECASE,
)
_REFUSAL_CHARS = 400


def stop(draft: Draft, context: CheckContext) -> str | None:
    """Refuse what the token limit cut, a call or an answer, and what the model refused to do."""
    if draft.stop == "refusal":
        return "the model refused"
    if draft.stop == "length" and draft.calls:
        return f"the token limit cut the call of {draft.calls[-1].name!r}"
    if draft.stop == "length":
        return "the token limit (the tier's max_tokens) cut the answer: say it in fewer words"
    return None


def not_empty(draft: Draft, context: CheckContext) -> str | None:
    """Refuse an answer with neither words nor calls."""
    if draft.calls or draft.text.strip():
        return None
    return "the answer is empty"


def known_tool(draft: Draft, context: CheckContext) -> str | None:
    """Refuse a call of a tool that this step does not have."""
    for call in draft.calls:
        if call.name not in context.tools:
            return f"there is no tool {call.name!r}"
    return None


def arguments(draft: Draft, context: CheckContext) -> str | None:
    """Refuse arguments that are not an object or that break a strict tool's schema."""
    for call in draft.calls:
        facts = context.tools.get(call.name)
        if facts is None or not facts.strict:
            continue
        if problem := _argument_problem(call, facts.parameters):
            return problem
    return None


def call_count(draft: Draft, context: CheckContext) -> str | None:
    """Refuse more calls than a step needs, and the same effect twice in one draft."""
    if len(draft.calls) > MOST_CALLS:
        return f"{len(draft.calls)} calls in one draft, at most {MOST_CALLS} make sense"
    keys = [call_key(call) for call in draft.calls]
    for call, key in zip(draft.calls, keys, strict=True):
        if keys.count(key) > 1 and context.tools[call.name].side_effect != "none":
            return f"{call.name} is called twice with the same arguments"
    return None


def traceable(draft: Draft, context: CheckContext) -> str | None:
    """Refuse an identifier, an address or a long number that is in nothing the model has seen."""
    reads_only = worst_effect(draft, context.tools) == "none"
    if context.top and reads_only:
        return None
    for call in draft.calls:
        facts = context.tools.get(call.name)
        if facts is None or not call.arguments:
            continue
        offered = f"{facts.description}\n{canonical.dumps(facts.parameters)}"
        if value := untraced(call.arguments, f"{context.seen}\n{offered}"):
            return f"{call.name}: {value!r} is in nothing that was said or looked up"
    return None


def no_loop(draft: Draft, context: CheckContext) -> str | None:
    """Refuse a call that this turn has made already, where nothing new can come of it.

    What has had an external effect is not done again; any other call may be made twice. Another
    call with a side effect in between makes it new, and so does a changed result. At the top a call
    that only reads passes: the turn's own limit of steps ends it.
    """
    for call in draft.calls:
        facts = context.tools.get(call.name)
        if facts is None:
            continue
        same = _since_change(call, context)
        if facts.side_effect == "external":
            if any(not past.error for past in same):
                return f"{call.name} was done already, with the same arguments"
        elif context.top and facts.side_effect == "none":
            continue
        elif len(same) >= SAME_CALLS and len({past.result for past in same[-SAME_CALLS:]}) == 1:
            return f"{call.name} was called {len(same)} times already and says the same each time"
    return None


def no_refusal(draft: Draft, context: CheckContext) -> str | None:
    """Refuse words by which a model declines, where a tier above may not."""
    if context.top or draft.calls or len(draft.text) > _REFUSAL_CHARS:
        return None
    found = _REFUSAL.search(draft.text)
    return f"the answer reads like a refusal: {found[0]!r}" if found else None


def only(check: Check, *where: str) -> Check:
    """Return a check that judges some drafts only: the rest passes.

    `where` names tools, side effects (`none`, `local`, `external`) of a draft's calls, or `text`
    for a draft without calls.
    """
    if not where:
        raise ConfigError("only() of nothing", hint='name tools, side effects or "text"')
    return _Only(check, frozenset(where))


def check_tools(checks: Iterable[Check], tools: Collection[str]) -> None:
    """Refuse checks whose bars name a tool that there is not: such a bar would never count."""
    for check in checks:
        for name in sorted(getattr(check, "tools", ())):
            if name not in tools:
                raise ConfigError(
                    f"the check {check_name(check)!r} has a bar for {name!r}, which is no tool",
                    hint=f"bars are for {', '.join((TEXT, *EFFECTS, *sorted(tools)))}",
                )


def run_checks(checks: Iterable[Check], draft: Draft, context: CheckContext) -> Failure | None:
    """Return the first failure of `draft`, or None if every check lets it pass."""
    for check in checks:
        reason = check(draft, context)
        if reason:
            return Failure(check_name(check), str(reason), context.tier)
    return None


def default_checks() -> tuple[Check, ...]:
    """Return the checks that every agent runs, the cheapest first."""
    return (stop, not_empty, known_tool, arguments, call_count, no_loop, no_refusal, traceable)


class _Only:
    def __init__(self, check: Check, where: frozenset[str]) -> None:
        self.name = check_name(check)
        self.tools = where - {TEXT, *EFFECTS}
        self._check, self._where = check, where

    def __call__(self, draft: Draft, context: CheckContext, /) -> str | None:
        found = {call.name for call in draft.calls} or {TEXT}
        found |= {context.tools[n].side_effect for n in found if n in context.tools}
        return self._check(draft, context) if found & self._where else None


def _since_change(call: DraftCall, context: CheckContext) -> list[PastCall]:
    """Return the equal calls of this turn since another one has changed something."""
    key, same = call_key(call), list[PastCall]()
    for past in context.past:
        facts = context.tools.get(past.name)
        if call_key(past) == key:
            same.append(past)
        elif facts is not None and facts.side_effect != "none" and not past.error:
            same.clear()
    return same


def _argument_problem(call: DraftCall, schema: dict[str, Any]) -> str | None:
    try:
        value = json.loads(call.arguments or "{}")
    except ValueError as error:
        return f"{call.name}: the arguments are not JSON ({error})"
    if not isinstance(value, dict):
        return f"{call.name}: the arguments are {type(value).__name__}, not an object"
    problem = next(iter(_validator(canonical.dumps(schema)).iter_errors(value)), None)
    if problem is None:
        return None
    where = "/".join(str(part) for part in problem.absolute_path)
    message = problem.message if len(problem.message) < 200 else problem.message[:197] + "..."
    return f"{call.name}: {where + ': ' if where else ''}{message}"


@lru_cache(maxsize=1024)
def _validator(schema_text: str) -> Validator:
    from jsonschema import SchemaError, validators

    schema = canonical.loads(schema_text)
    cls = validators.validator_for(schema, default=validators.Draft202012Validator)
    try:
        cls.check_schema(schema)
    except SchemaError as error:
        raise ConfigError(
            f"a tool's schema is not a JSON schema: {error.message}",
            hint="give the schema as JSON Schema (type, properties, required)",
        ) from error
    return cls(schema)
