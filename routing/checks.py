"""The checks that every draft passes before it has an effect. None of them calls a model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from agentmesh import canonical
from agentmesh.errors import ConfigError
from agentmesh.routing.drafts import Check, CheckContext, Draft, DraftCall, check_name
from agentmesh.routing.steps import Failure

if TYPE_CHECKING:
    from jsonschema.protocols import Validator


def stop(draft: Draft, context: CheckContext) -> str | None:
    """Refuse what the token limit cut inside a tool call, and what the model refused to do."""
    if draft.stop == "refusal":
        return "the model refused"
    if draft.stop == "length" and draft.calls:
        return f"the token limit cut the call of {draft.calls[-1].name!r}"
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


def run_checks(checks: Iterable[Check], draft: Draft, context: CheckContext) -> Failure | None:
    """Return the first failure of `draft`, or None if every check lets it pass."""
    for check in checks:
        reason = check(draft, context)
        if reason:
            return Failure(check_name(check), str(reason), context.tier)
    return None


def default_checks() -> tuple[Check, ...]:
    """Return the checks that every agent runs, the cheapest first."""
    return (stop, not_empty, known_tool, arguments)


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
